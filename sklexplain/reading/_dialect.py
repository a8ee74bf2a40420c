"""What a text file does not say of itself: encoding, separator, decimal mark, header.

A wrong guess makes other numbers of the file, or loses some, and nobody notices. So a guess has to
fit every row of the file; where two fit, or none, the user is asked.
"""

import csv
import io
import re
from dataclasses import dataclass

from ._header import MISSING, guess_header
from ._problems import InputError, listed

# Where several fit, a comma may be the decimal mark of the numbers between the others.
_SEPARATORS = ("\t", ";", "|", ",")
_NAMES = {"\t": "tab", " ": "blanks"}
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_COMMA = re.compile(r"[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?$")
_WITH_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?$")
_WITH_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?$")
# 1,234 is a thousand and something, or a little more than 1.
_GROUPED = {",": re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+$")}
_GROUPED["."] = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+$")
_BOTH = {
    ",": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+,\d+$"),
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+\.\d+$"),
}
_SOME = 2000  # rows that separators are tried on first


@dataclass(frozen=True)
class Dialect:
    """How a text file writes a table.

    Attributes
    ----------
    encoding : str
        Of its bytes.
    separator : str
        Between fields; a blank stands for any number of blanks.
    decimal : {".", ","}
        Mark in numbers.
    thousands : {".", ","} or None
        Mark between groups of digits.
    header : list of str or None
        The names in the first row; None if that is a sample.
    first : tuple of str
        The fields of the first row, whatever they are.
    n_columns, n_rows : int
        Fields of a row, and rows that are samples.
    said : str
        What of this was found, for the user to check.
    """

    encoding: str
    separator: str
    decimal: str
    thousands: str | None
    header: list | None
    first: tuple
    n_columns: int
    n_rows: int
    said: str


def find_dialect(
    content, name, *, separator=None, decimal=None, encoding=None, has_header=None, named=()
):
    """Find out how a text file is written.

    Parameters
    ----------
    content : bytes
        All of it.
    name : str
        Of the file, for messages.
    separator, decimal, encoding : str or None, default=None
        What the user says; None: what fits.
    has_header : bool or None, default=None
        Whether the first row holds names; None: if it does not look like a sample.
    named : sequence of str, default=()
        Columns that the user names: where one stands in the first row, that is no sample.

    Returns
    -------
    dialect : Dialect
    text : str
        The file, decoded.

    Raises
    ------
    InputError
        If nothing fits every row, or more than one thing does.
    """
    encoding, text = _decoded(content, name, encoding)
    if not text.strip():
        raise InputError(f"{name} is empty.")
    try:
        separator = _separator(text, name, separator)
        rows, lengths = _read_through(text, separator)
    except csv.Error as error:
        raise InputError(f"{name} cannot be read as text in columns: {error}.") from None
    _check_lengths(lengths, name, separator)
    decimal, thousands = _decimal_mark(rows, name, separator, decimal)
    is_number = _reader(decimal, thousands)
    doubt = None
    if has_header is None:
        has_header, doubt = guess_header(rows, is_number, named)
    header = rows[0] if has_header else None
    if header is not None:
        _check_header(header, name)
    wide, n_rows = lengths[0], len(lengths) - has_header
    words = [
        f"{n_rows:,} rows of {wide:,} {'column' if wide == 1 else 'columns'}",
        f"separator {_name(separator)}" if wide > 1 else None,
        f"decimal {decimal!r}",
        f"thousands {thousands!r}" if thousands else None,
        ("names in the first row" if has_header else "no header") + (doubt or ""),
        f"encoding {encoding}" if encoding not in ("utf-8", "utf-8-sig") else None,
    ]
    said = "; ".join(word for word in words if word)
    first = tuple(rows[0])
    return Dialect(encoding, separator, decimal, thousands, header, first, wide, n_rows, said), text


def _name(separator):
    return _NAMES.get(separator, repr(separator))


def _decoded(content, name, encoding):
    """Decode a file's bytes, by the mark at its beginning or as what they can be."""
    if encoding is not None:
        try:
            return encoding, content.decode(encoding)
        except (LookupError, UnicodeError) as error:
            raise InputError(f"{name} cannot be read with --encoding {encoding}: {error}") from None
    for mark, marked in _BOMS:
        if content.startswith(mark):
            try:
                return marked, content.decode(marked)
            except UnicodeError as error:
                raise InputError(f"{name} begins as {marked} but is not: {error}") from None
    if b"\0" in content:
        zeros = content[:4000].count(b"\0") / max(1, len(content[:4000]))
        fix = " (--encoding utf-16-le or utf-16-be, perhaps)" if zeros > 0.3 else ""
        raise InputError(f"{name} holds zero bytes, so it is no text as it stands{fix}.")
    try:
        return "utf-8", content.decode("utf-8")
    except UnicodeError:
        pass
    try:
        # What spreadsheets in Europe and America write, if it is not UTF-8.
        return "cp1252", content.decode("cp1252")
    except UnicodeError:
        raise InputError(
            f"{name} is neither UTF-8 nor cp1252 text; name its encoding with --encoding, or save "
            "it as UTF-8."
        ) from None


def _separator(text, name, separator):
    """Find the one separator that gives every row as many fields, of the first rows at least."""
    if separator is not None:
        separator = "\t" if separator in ("\\t", "tab") else separator
        separator = " " if separator in ("\\s+", "blanks") else separator
        if len(separator) != 1:
            raise InputError(f"--sep {separator!r} must be one character, 'tab' or 'blanks'.")
        return separator
    some = "\n".join(text.splitlines()[:_SOME])
    widths = {sep: [len(row) for row in _rows(some, sep)] for sep in (*_SEPARATORS, " ")}
    for candidate, lengths in widths.items():
        if min(lengths) == max(lengths) > 1:
            return candidate
    # None fits all rows. One that fits most tells which row is at fault.
    best, most = ",", 0
    for candidate in _SEPARATORS:
        lengths = [n for n in widths[candidate] if n > 1]
        common = max(map(lengths.count, set(lengths)), default=0)
        if common > max(most, len(widths[candidate]) / 2):
            best, most = candidate, common
    return best


def _read_through(text, separator):
    """Return the fields of the first rows, and how many there are in each of all rows."""
    rows, lengths = [], []
    for row in _rows(text, separator):
        lengths.append(len(row))
        if len(rows) < _SOME:
            rows.append(row)
    return rows, lengths


def _rows(text, separator):
    """Yield the fields of all rows that hold something."""
    if separator == " ":
        rows = (line.split() for line in io.StringIO(text))
    else:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    for row in rows:
        row = [field.strip() for field in row]
        if any(row) or len(row) > 1:
            yield row


def _check_lengths(lengths, name, separator):
    first, others = lengths[0], lengths[1:]
    odd = [i for i, n in enumerate(others, start=2) if n != first]
    if not odd:
        return
    n, what = others[odd[0] - 2], _name(separator)
    if len(odd) < len(others) or len(set(others)) > 1:
        raise InputError(
            f"{name}: row {odd[0]} has {n} fields where the first has {first} (separator {what}; "
            f"{len(odd):,} such rows); correct the file, or name another separator with --sep."
        )
    fix = "name another separator with --sep, or correct the first row"
    if n == first + 1:
        fix = (
            "if the first field is an index, give it a name too; if there are no names at all, "
            "correct the first row and say --no-header"
        )
    raise InputError(
        f"{name} names {first} columns, but every row has {n} fields (separator {what}): {fix}."
    )


def _decimal_mark(rows, name, separator, decimal):
    """Find the decimal mark, and that of thousands."""
    if decimal not in (None, ".", ","):
        raise InputError(f"--decimal {decimal!r} must be '.' or ','.")
    fields = [field for row in rows for field in row]
    if decimal is None and not any("," in field for field in fields):
        if not any(field.count(".") > 1 and _GROUPED["."].match(field) for field in fields):
            return ".", None
    commas = [f for f in fields if _WITH_COMMA.match(f) or _BOTH[","].match(f)]
    points = [f for f in fields if _WITH_POINT.match(f) or _BOTH["."].match(f)]
    groups = {mark: [f for f in fields if _GROUPED[mark].match(f)] for mark in ",."}
    both = {mark: any(_BOTH[mark].match(f) for f in fields) for mark in ",."}
    several = {mark: any(f.count(mark) > 1 for f in groups[mark]) for mark in ",."}
    if decimal is None:
        sure = {
            ",": both[","] or several["."] or any(f not in groups[","] for f in commas),
            ".": both["."] or several[","] or any(f not in groups["."] for f in points),
        }
        if sure[","] and sure["."]:
            raise InputError(
                f"{name} has numbers with a decimal point ({points[0] if points else '1.5'}) and "
                f"with a comma ({commas[0] if commas else '1,5'}); say --decimal '.' or ','."
            )
        if sure[","] or sure["."]:
            decimal = "," if sure[","] else "."
        elif commas:
            raise InputError(
                f"{name}: {commas[0]!r} may be a thousand and more, or a decimal number; say "
                "--decimal ',' if the comma is the decimal mark, else --decimal '.'."
            )
        else:
            decimal = "."
    other = "." if decimal == "," else ","
    has_thousands = bool(groups[other] or both[decimal])
    if decimal == "," and separator != ",":
        # 1.234 beside 0,5 is a thousand and more; every point has to be one.
        has_thousands = bool(points or groups["."]) and all(f in groups["."] for f in points)
    return decimal, other if has_thousands else None


def _reader(decimal, thousands):
    """Return a function that tells whether a field is a number, or missing."""
    pattern = _COMMA if decimal == "," else _POINT

    def is_number(field):
        field = field if thousands is None else field.replace(thousands, "")
        return field.lower() in MISSING or bool(pattern.match(field))

    return is_number


def _check_header(header, name):
    seen = set()
    for title in header:
        if title and title in seen:
            raise InputError(f"{name} has more than one column named {title!r}; rename one.")
        seen.add(title)
    nameless = [i for i, title in enumerate(header) if not title]
    if len(nameless) > 1:
        raise InputError(
            f"{name}: columns {listed([i + 1 for i in nameless])} have no name; name them."
        )
