"""Refuses samples that are several arrays, and writes the step that makes them of one."""

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch


def check_one_array(X):
    """Raise a TypeError if X is several arrays, as a network of several inputs takes them.

    Parameters
    ----------
    X : object
        What a user passed as samples. A dict of several arrays is that, and so is a tuple of
        arrays that have as many rows each but other shapes, and a list of such that differ in
        their axes.

    Raises
    ------
    TypeError
        With the step that makes the same of one array.
    """
    # Some of scipy's sparse matrices are dicts as well. Other mappings, open files for example, may
    # be large: they are only named, elsewhere. A Bunch is a data set.
    is_dict = isinstance(X, dict) and not sparse.issparse(X) and not isinstance(X, Bunch)
    is_dict = is_dict and len(X) > 1 and all(map(_has_rows, X.values()))
    if not is_dict and not (isinstance(X, (tuple, list)) and _are_several(X)):
        return
    cuts, start = [], 0
    for part in X.values() if is_dict else X:
        cut, start = _cut(part, start)
        cuts.append(cut)
    names = f" ({', '.join(map(repr, X))})" if is_dict else ""
    pairs = ", ".join(f"{key!r}: {cut}" for key, cut in zip(X, cuts, strict=True))
    made = f"{{{pairs}}}" if is_dict else f"[{', '.join(cuts)}]"
    raise TypeError(
        f"X is a {type(X).__name__} of several arrays{names}, but an explanation has the shape of "
        "one. Put their columns side by side in one array (numpy.column_stack), and let a step in "
        "front of the network make the several of it: make_pipeline(FunctionTransformer(lambda X: "
        f"{made}), net)."
    )


def _has_rows(part):
    try:
        return len(np.shape(part)) > 0
    except (ValueError, TypeError, RuntimeError):  # ragged, or no array at all
        return False


def _are_several(X):
    """Tell whether items are arrays of as many rows each, but of other shapes."""
    shapes = [getattr(item, "shape", None) for item in X[:2]]
    if len(shapes) < 2 or not all(shapes):
        return False
    shapes = {tuple(getattr(item, "shape", None) or ()) for item in X}
    alike = len(shapes) > 1 and len({shape[:1] for shape in shapes}) == 1
    # A list of arrays with the same axes may also be series of unequal length.
    return alike and (isinstance(X, tuple) or len(set(map(len, shapes))) > 1)


def _cut(part, start):
    """Write how a part is cut out of the columns from ``start`` on; return where it ends."""
    shape = tuple(getattr(part, "shape", None) or np.shape(part))
    dtype = str(getattr(part, "dtype", "float32")).removeprefix("torch.")
    width = int(np.prod(shape[1:], dtype=np.int64))
    stop = start + width
    cut = f"X[:, {start}]" if len(shape) < 2 else f"X[:, {start}:{stop}]"
    if len(shape) > 2:
        cut += f".reshape(-1, {', '.join(map(str, shape[1:]))})"
    return f"{cut}.astype({dtype!r})", stop
