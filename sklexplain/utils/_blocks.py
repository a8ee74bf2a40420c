"""Running rows block by block, in smaller blocks where memory is short; or a few of them."""

import numpy as np
import torch


def spread_places(n, most):
    """Choose positions that are spread evenly, the first and the last among them.

    Parameters
    ----------
    n : int
        How many there are.
    most : int
        How many to choose, if there are as many.

    Returns
    -------
    places : ndarray of int
        In ascending order.

    Examples
    --------
    >>> from sklexplain.utils import spread_places
    >>> spread_places(10, 4).tolist()
    [0, 3, 6, 9]
    """
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.intp))


def in_blocks(run, n_rows, rows, shrink=None):
    """Run rows block by block; in smaller blocks from the first on that takes too much memory.

    Parameters
    ----------
    run : callable
        From a slice of the rows to a result. Once a block was too large it is called again with a
        smaller one, so it must keep nothing until it is done.
    n_rows : int
        Number of rows.
    rows : int
        Rows in a block.
    shrink : callable or None, default=None
        Called without arguments where memory was short, so that whatever else decides how much is
        done at once does less; returns whether it could.

    Yields
    ------
    part : slice
    result : object

    Raises
    ------
    torch.OutOfMemoryError
        If there is too little memory for a single row.

    Examples
    --------
    >>> from sklexplain.utils import in_blocks
    >>> [result for _, result in in_blocks(lambda part: (part.start, part.stop), 5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    start = 0
    while start < n_rows:
        part = slice(start, min(start + rows, n_rows))
        size, failed = part.stop - part.start, False
        try:
            result = run(part)
        except torch.OutOfMemoryError:
            others_can = shrink is not None and shrink()
            if size == 1 and not others_can:
                raise
            failed = True
        # Only here: as long as the error is handled, its frames hold on to their tensors.
        if failed:
            rows = max(1, size // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # in pieces of the former size, which may not do
            continue
        yield part, result
        del result
        start = part.stop
