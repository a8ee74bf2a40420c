"""Samples that are read and cast a few at a time, and results written as they come."""

import numpy as np

_BLOCK = 2**18  # numbers read at once
_LARGE = 2**20  # fewer numbers are read at once
# Of a column's standard deviation; a little less than what `cast_checked` allows.
_ROUNDING = 0.009


def row_bytes(row):
    """Return what equal samples have in common, and others do not, to look them up by.

    Parameters
    ----------
    row : ndarray
        One sample, numbers.

    Returns
    -------
    key : bytes
        The same for 0.0 and -0.0, which are equal.
    """
    return (row + 0).tobytes()


class Rows:
    """Samples of a large array in another dtype, cast where they are looked at.

    What an array does beside giving rows is done with an array of all of them.

    Parameters
    ----------
    source : array of shape (n, ...)
        Anything with a shape and slices: in memory, mapped from a file or stored in blocks.
    dtype : dtype
        Of the rows.
    """

    def __init__(self, source, dtype):
        self.source = source
        self.dtype = np.dtype(dtype)
        self.shape = tuple(source.shape)
        self.ndim = len(self.shape)
        self._held = 0, ()  # the first row that was read last, and the rows

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        return self._read(index).astype(self.dtype, copy=False)

    def _read(self, index):
        if isinstance(self.source, np.ndarray):
            return np.asarray(self.source[index])
        if isinstance(index, slice) and index.step in (None, 1):
            low, high, _ = index.indices(len(self))
            return self._ahead(low, max(low, high))
        if not isinstance(index, (np.ndarray, list)):
            return np.asarray(self.source[index])
        # Stored arrays take slices, and little else.
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index % max(len(self), 1)
        if index.size == 0:
            return np.asarray(self.source[:0])
        low, high = int(index.min()), int(index.max()) + 1
        if high - low <= 2 * len(index):
            return self._ahead(low, high)[index - low]
        return np.concatenate([np.asarray(self.source[i : i + 1]) for i in index.tolist()])

    def _ahead(self, low, high):
        """Read some rows and the next few: what is stored in blocks is unpacked block by block."""
        first, held = self._held
        if not first <= low <= high <= first + len(held):
            last = max(high, low + _BLOCK // max(1, int(np.prod(self.shape[1:]))))
            first, held = self._held = low, np.asarray(self.source[low:last])
        return held[low - first : high - first]

    def __array__(self, dtype=None, copy=None):
        """Return all samples."""
        return np.asarray(self.source[:]).astype(self.dtype if dtype is None else dtype, copy=False)

    def __getattr__(self, name):
        """Return what an array of all samples has."""
        if name.startswith("__") or name == "source":
            raise AttributeError(name)
        return getattr(np.asarray(self), name)


class Written:
    """A result that is written part by part into one array, which the first part tells the form of.

    Parameters
    ----------
    n : int
        How many rows there will be.
    dtype : dtype or None, default=None
        Of the array; None: that of the first part.
    """

    def __init__(self, n, dtype=None):
        self.n, self.dtype = n, dtype
        self.array, self.n_done = None, 0

    def add(self, part):
        """Write the next rows.

        Parameters
        ----------
        part : ndarray of shape (b, ...)
            The rows.
        """
        if self.array is None:
            dtype = part.dtype if self.dtype is None else self.dtype
            self.array = np.empty((self.n, *part.shape[1:]), dtype)
        self.array[self.n_done : self.n_done + len(part)] = part
        self.n_done += len(part)


def read_by_rows(X, shape, dtype):
    """Look through a large array of numbers, to be read a few rows at a time from then on.

    Parameters
    ----------
    X : object
        Samples.
    shape : tuple of int
        Of one sample.
    dtype : dtype
        The floating dtype that is wanted.

    Returns
    -------
    rows : Rows or None
        None where X is no such array or small, where nothing is to be cast, and where an error or
        a warning is due, which whoever reads all of it gives.
    """
    dtype = np.dtype(dtype)
    if not _is_stored(X) or dtype.kind != "f" or tuple(X.shape[1:]) != tuple(shape):
        return None
    given = np.dtype(X.dtype)
    if given.kind not in "fiu" or given == np.float16 or (given.kind != "f" and given.itemsize > 4):
        return None
    if np.prod(X.shape, dtype=np.float64) < _LARGE:
        return None
    if given == dtype and isinstance(X, np.ndarray):
        return None
    return Rows(X, dtype) if _casts_well(X, dtype) else None


def _is_stored(X):
    """Tell whether X is an array by what it can do."""
    if isinstance(X, np.ndarray):
        return not isinstance(X, np.ma.MaskedArray) and X.ndim > 1
    kind = type(X)
    foreign = ("__dask_graph__", "columns", "detach", "toarray", "mask", "units")
    if any(hasattr(kind, name) for name in foreign):
        return False
    has = hasattr(kind, "__getitem__") and hasattr(kind, "__array__")
    has = has and hasattr(X, "shape") and hasattr(X, "dtype")
    try:
        return has and len(X.shape) > 1 and np.dtype(X.dtype) is not None
    except TypeError:  # a dtype that numpy lacks
        return False


def _casts_well(X, dtype):
    """Tell whether all is finite, also in another dtype, and no column loses its variation."""
    width = int(np.prod(X.shape[1:]))
    step = max(1, _BLOCK // width)
    narrows = np.dtype(X.dtype).itemsize > dtype.itemsize or np.dtype(X.dtype).kind != "f"
    rounding, total, squares = np.zeros((3, width))
    first = shift = None
    varies = np.zeros(width, dtype=bool)
    for i in range(0, X.shape[0], step):
        try:
            block = np.asarray(X[i : i + step]).reshape(-1, width)
        except Exception:  # of whatever the array is
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            cast = block.astype(dtype)
            if not np.isfinite(cast.sum(dtype=np.float64)):
                return False
        if not narrows:
            continue
        if first is None:
            first, shift = block[:1].copy(), block.mean(axis=0, dtype=np.float64)
        np.maximum(rounding, np.abs(cast.astype(np.float64) - block).max(axis=0), out=rounding)
        varies |= (block != first).any(axis=0)
        off = block - shift
        total += off.sum(axis=0)
        squares += np.einsum("ij,ij->j", off, off)
    spread = np.sqrt(np.maximum(squares / X.shape[0] - (total / X.shape[0]) ** 2, 0))
    return not ((rounding > _ROUNDING * spread) & varies).any()
