"""Reading arrays: of .npz and .npy files nothing is run, and what is unused is not unpacked."""

import zipfile

import numpy as np
from sklearn.utils import Bunch

from ._problems import InputError, listed

_PAIRS = (("X", "y"), ("X_train", "y_train"), ("data", "target"))
_MAX_BYTES = 8 * 2**30


def read_arrays(path, suffix, *, samples=None, target=None):
    """Read samples and labels from a file of arrays.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    suffix : {".npz", ".npy"}
        Its kind.
    samples, target : str or None, default=None
        Names of the arrays with samples and labels; None: as they are usually called.

    Returns
    -------
    data : Bunch
        ``X``, ``y``, ``X_test``, ``y_test`` (None where there are none), and ``read``, what was
        read, in words.

    Raises
    ------
    InputError
        If the file is damaged, too large, or holds no such arrays.
    """
    if suffix == ".npy":
        if samples is not None or target is not None:
            raise InputError("--x and --target name arrays of a .npz file; a .npy file has one.")
        X = _loaded(path.name, lambda: _npy(path), suffix)
        _check_array("the array", X, None)
        return Bunch(X=_native(X), y=None, X_test=None, y_test=None, read=_shape("array", X))
    names = _loaded(path.name, lambda: _names(path))
    name, label = _chosen(path.name, names, samples, target)
    wanted = [name, label]
    if name == "X_train" or (samples is None and name == "X"):
        wanted += ["X_test", "y_test"]
    found = {
        member: _loaded(path.name, lambda member=member: _member(path, member))
        for member in wanted
        if member in names
    }
    X, y = found[name], found.get(label)
    X_test, y_test = found.get("X_test"), found.get("y_test")
    _check_array(name, X, y)
    if X_test is not None:
        _check_array("X_test", X_test, y_test)
        if X_test.shape[1:] != X.shape[1:]:
            raise InputError(f"X_test has shape {X_test.shape} but {name} has {X.shape}.")
    read = _shape(name, X) + ("" if y is None else f", labels {label}")
    read += "" if X_test is None else f", and {_shape('X_test', X_test)}"
    unused = [other for other in names if other not in found]
    read += f"; not used: {listed(unused, 5)}" if unused else ""
    X_test = None if X_test is None else _native(X_test)
    return Bunch(X=_native(X), y=y, X_test=X_test, y_test=y_test, read=read)


def _shape(name, X):
    return f"{name} of shape {' x '.join(f'{n:,}' for n in X.shape)}"


def _chosen(file, names, samples, target):
    """Names of the arrays with samples and with labels."""
    if samples is None:
        pair = next((pair for pair in _PAIRS if pair[0] in names), None)
        if pair is None:
            raise InputError(
                f"{file} has the arrays {listed(names)}; name the samples X, or say which they are "
                "with --x NAME."
            )
        name, label = pair
    elif samples not in names:
        raise InputError(f"--x {samples}: {file} has the arrays {listed(names)}.")
    else:
        name, label = samples, "y"
    if target is not None:
        if target not in names:
            raise InputError(
                f"--target {target}: {file} has the arrays {listed(names)}; labels are named y, or "
                "with --target."
            )
        label = target
    return name, label


def _loaded(file, load, suffix=".npz"):
    """Load, and say in words what is wrong with a file."""
    try:
        return load()
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{file} does not fit into memory: {error}") from error
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        text = str(error) or type(error).__name__
        if "Object arrays" in text or "allow_pickle" in text:
            raise InputError(
                f"{file} cannot be read as {suffix}: it holds Python objects, which could run code "
                "when they are read; save texts as y.astype(str) and numbers as X.astype(float)."
            ) from error
        raise InputError(f"{file} is damaged or no file of its kind: {text}") from error


def _names(path):
    with path.open("rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        raise InputError(f"{path.name} is a .npy file by its contents; rename it to .npy.")
    if not start:
        raise InputError(f"{path.name} is empty.")
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    return [name.removesuffix(".npy") for name in members if name.endswith(".npy")]


def _member(path, name):
    """Read one array of a .npz file, after a look at how large it says it is."""
    with zipfile.ZipFile(path) as archive:
        member = f"{name}.npy"
        info = archive.getinfo(member)
        with archive.open(info) as file:
            shape, dtype, length = _header(file)
            _check_size(f"{path.name}: {name}", shape, dtype, info.file_size - length)
        with archive.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _npy(path):
    size = path.stat().st_size
    if not size:
        raise InputError(f"{path.name} is empty.")
    with path.open("rb") as file:
        shape, dtype, length = _header(file)
        _check_size(path.name, shape, dtype, size - length)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(file):
    """Shape, dtype and length of the header of an array in a file."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"version {version} of the format is not known.")
    shape, _, dtype = read[version](file)
    return shape, dtype, file.tell()


def _check_size(name, shape, dtype, n_held):
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    n_bytes = dtype.itemsize
    for size in shape:
        n_bytes *= int(size)
    if n_bytes > n_held:
        raise InputError(
            f"{name} says that it has shape {shape}, {n_bytes:,} bytes, but holds {n_held:,}: the "
            "file is damaged."
        )
    if n_bytes > _MAX_BYTES:
        raise InputError(
            f"{name} of shape {shape} takes {n_bytes / 2**30:.1f} GiB; at most "
            f"{_MAX_BYTES / 2**30:.0f} GiB are read. Save a part of the samples."
        )


def _native(X):
    """In this machine's byte order, which torch needs."""
    return X if X.dtype.isnative else X.astype(X.dtype.newbyteorder("="))


def _check_array(name, X, y):
    if X.dtype.kind not in "biuf" or X.ndim < 2:
        raise InputError(
            f"{name} has shape {X.shape} and dtype {X.dtype}; numbers with at least two axes, "
            "samples first, are needed."
        )
    if y is not None and y.shape not in ((len(X),), (len(X), 1)):
        raise InputError(f"the labels of {name} have shape {y.shape}; ({len(X)},) is needed.")
    if X.dtype.kind in "iu" and X.size and max(int(X.max()), -int(X.min())) > 2**53:
        raise InputError(
            f"{name} has whole numbers above 2**53, which cannot be told apart as decimal numbers; "
            "leave identifiers out."
        )
    if X.dtype.kind == "f" and X.size and float(np.abs(X[np.isfinite(X)]).max(initial=0)) > 1e150:
        raise InputError(f"{name} has numbers above 1e150, whose squares cannot be computed.")
    if X.ndim > 2 and not np.isfinite(X).all():
        where = tuple(np.argwhere(~np.isfinite(X))[0].tolist())
        raise InputError(
            f"{name} has a missing or infinite value at {where}; fill or remove such samples."
        )
