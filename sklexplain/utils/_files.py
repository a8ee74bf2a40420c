"""Files that are written completely or not at all."""

import os
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path):
    """Write a file beside where it belongs, and rename it once it is complete.

    If anything goes wrong, a file that was there before stays as it was. A symbolic link is
    replaced itself, not what it points to.

    Parameters
    ----------
    path : path-like
        Where the file belongs.

    Yields
    ------
    beside : Path
        The file to write, which does not exist yet, in the same folder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklexplain.utils import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "numbers.txt") as beside:
    ...         _ = beside.write_text("1 2 3")
    ...     [path.name for path in Path(folder).iterdir()]
    ['numbers.txt']
    """
    path = Path(path)
    # A name of its own: two processes may write the same file.
    beside = path.with_name(f".sklexplain-{secrets.token_hex(8)}.part")
    try:
        yield beside
        if path.is_file() and not path.is_symlink():
            shutil.copymode(path, beside)
        _settle(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_file(path, text):
    r"""Write text as UTF-8, completely or not at all.

    Parameters
    ----------
    path : path-like
        Where to; a file that is there is replaced. A pipe or device is written to.
    text : str
        The content. What UTF-8 has no bytes for (half a surrogate pair, as in the name of a file
        that is no UTF-8) is written as ``\udcff``.

    Raises
    ------
    IsADirectoryError
        If it is a folder.
    FileNotFoundError
        If the folder that it is to be in is not there.
    OSError
        If it cannot be written; what was there stays.
    """
    path, content = Path(path), text.encode("utf-8", errors="backslashreplace")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    if path.exists() and not path.is_file():  # nothing to lose, and nothing to rename
        path.write_bytes(content)
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}.")
    try:
        with replacing(path) as beside:
            beside.write_bytes(content)
    except OSError as error:
        # The name of the file beside would say nothing.
        raise OSError(
            error.errno,
            f"{path} ({len(content):,} bytes) cannot be written: {error.strerror or error}; what "
            "was there is as it was.",
        ) from error


def _settle(path):
    """See that a file is on the disk, before it takes the place of another one."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
