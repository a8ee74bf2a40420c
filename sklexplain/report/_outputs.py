"""Files that are written: never an input, and nothing that is not ours without being told to."""

import os

from ..reading import InputError

# How our reports begin, and how they name themselves.
_MARK = b'<meta name="generator" content="sklexplain'
_SUFFIXES = (".csv", ".parquet")


def check_outputs(args):
    """Raise unless what is to be written can be, before hours are spent on making it.

    Parameters
    ----------
    args : argparse.Namespace
        With ``out``, ``numbers`` (or None), ``data``, ``model`` and ``force``.

    Raises
    ------
    InputError
        If a file cannot be written, is an input, or is there and no report of ours.
    """
    inputs = [("--data", args.data), ("--model", args.model)]
    for option, path in (("--out", args.out), ("--numbers", args.numbers)):
        if path is None:
            continue
        if option == "--numbers" and path.suffix.lower() not in _SUFFIXES:
            raise InputError(f"--numbers {path} must be a .csv or .parquet file.")
        _check_place(option, path)
        for name, given in inputs:
            if given is not None and _same(path, given):
                raise InputError(f"{option} {path} is the file of {name}; it would be lost.")
        if path.exists() and not args.force and not (option == "--out" and _is_ours(path)):
            raise InputError(
                f"{option} {path} is there already, and is no report of sklexplain; give another "
                "name, or --force to replace it."
            )
    if args.numbers is not None and _same(args.numbers, args.out):
        raise InputError("--out and --numbers are the same file.")


def _check_place(option, path):
    """Raise unless a file can be made at a place."""
    if "\0" in str(path):
        raise InputError(f"{option} {str(path)!r} is no name for a file.")
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; give a file.")
    if not path.parent.is_dir():
        raise InputError(f"{option}: there is no folder {path.parent}.")
    trial = path.parent / f".{path.name[:100]}.{os.getpid()}.trial"
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise InputError(f"{option} {path} cannot be written: {error.strerror}.") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise InputError(f"{option} {path} cannot be written: it is read-only.")


def _same(path, other):
    """Tell whether two paths lead to one file, through links too."""
    if path.exists() and other.exists():
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


def _is_ours(path):
    with path.open("rb") as file:
        return _MARK in file.read(4000)
