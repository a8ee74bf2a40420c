"""How many samples a representation's network runs at once."""

from ..layers import fitting_rows, most_rows
from ..utils import in_blocks

# Measured on small convolutional, recurrent and dense encoders: larger blocks leave the cache,
# smaller ones pay the overhead of a call.
_MIN_BLOCK = 128


class Blocks:
    """What `Representation` knows of memory.

    Attributes
    ----------
    limit : int or None
        Most rows at once, as far as memory has turned out to be too little for more.
    """

    limit = None

    def most_rows(self, batch_size):
        """Return the number of samples that may run together, ``batch_size`` as a number.

        Parameters
        ----------
        batch_size : int or "auto"
            The explainer's parameter.

        Returns
        -------
        n_rows : int
            On a GPU no more than have room.
        """
        rows = most_rows(batch_size, self._row_bytes(), self.device)
        return rows if self.limit is None else min(rows, self.limit)

    def _row_bytes(self):
        """Memory of one row: its input, and what a pass keeps, which is its output at least."""
        output_bytes = self.output_dtype.itemsize * self.probe.n_units
        return self.probe.input_bytes + max(self.probe.bytes_per_row, output_bytes)

    def shrink(self, rows):
        """Have fewer rows run at once from now on, as there was too little memory for so many.

        Parameters
        ----------
        rows : int
            How many there were at most.

        Returns
        -------
        shrunk : bool
            False if it is one row at a time already.
        """
        if rows == 1:
            return False
        self.limit = max(1, rows // 2)
        return True

    def in_blocks(self, run, n_rows, rows, batch_size):
        """Run rows block by block; in smaller blocks from the first on that takes too much memory.

        Parameters
        ----------
        run, n_rows, rows
            See `sklexplain.utils.in_blocks`.
        batch_size : callable
            Returns the most rows that may be in the network at once, which are fewer from now on
            where memory was short.

        Returns
        -------
        blocks : iterator
        """
        return in_blocks(run, n_rows, rows, lambda: self.shrink(batch_size()))

    def block_rows(self, batch_size):
        """Return the number of rows to run at once: activations stay in the processor's cache.

        Parameters
        ----------
        batch_size : int
            Most rows allowed.

        Returns
        -------
        n_rows : int
            At most ``batch_size``; without a torch path, just that.
        """
        if self.device.type != "cpu":
            return self.most_rows(batch_size)
        batch_size = self.most_rows(batch_size)
        if not self.differentiable:
            return batch_size
        row_bytes = self.probe.bytes_per_row
        return fitting_rows(batch_size, row_bytes, self.device, at_least=_MIN_BLOCK)
