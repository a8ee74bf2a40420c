"""Names from anywhere, made fit to be shown."""

import unicodedata

# They turn the direction of all that follows them, in other people's sentences too.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible_text(value):
    r"""Return a value as text whose every sign can be seen, or is a space.

    Signs that cannot be drawn or written to a file (control characters, halves of surrogate pairs),
    or change how the text around them is read, are written as their codes.

    Parameters
    ----------
    value : object
        A name, label or title.

    Returns
    -------
    text : str

    Examples
    --------
    >>> from sklexplain.utils import visible_text
    >>> visible_text("age\x00") == r"age\u0000", visible_text(3)
    (True, '3')
    """
    # A subclass of str may be more than a text: HTML that is not to be escaped, for example.
    text = str.__str__(str(value))
    if text.isascii() and text.isprintable():  # pictures, which are long, among them
        return text
    return "".join(_visible(sign) for sign in text)


def _visible(sign):
    if sign in "\n\t":
        return sign
    if sign in _TURNS or unicodedata.category(sign) in ("Cc", "Cs"):
        return f"\\u{ord(sign):04x}"
    return sign
