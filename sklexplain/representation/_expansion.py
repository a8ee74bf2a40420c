"""Raw tables as numbers that can be compared and averaged: a column for every category."""

import numpy as np

_MOST = 100  # categories of one column; the rarest beyond have no column of their own


class Expansion:
    """Columns of numbers as they are, others one-hot.

    Parameters
    ----------
    table : Table
        How the samples looked.
    inputs : ndarray of shape (n, n_columns)
        Samples, as `Table.inputs` returned them.

    Attributes
    ----------
    columns : ndarray of int of shape (n_outputs,)
        Raw column of every output.
    is_category : ndarray of bool of shape (n_outputs,)
        Whether an output says that the column has some value.
    names : list of str
        ``age``, ``site=a``, …

    Notes
    -----
    A value without a column of its own is none of the others: zeros. Missing numbers become the
    mean. A column in which no value occurs twice has no output.
    """

    def __init__(self, table, inputs):
        self.fill = table.typical(inputs)
        self.fill = np.where(table.coded | np.isnan(self.fill), 0.0, self.fill)
        self._parts, self.names, columns, is_category = [], [], [], []
        for i, coded in enumerate(table.coded):
            values = None
            if coded:
                values, counts = np.unique(inputs[:, i], return_counts=True)
                most = np.sort(np.argsort(-counts, kind="stable")[:_MOST])
                values = values[most] if counts.max() > 1 else values[:0]
            self._parts.append(values)
            n_outputs = 1 if values is None else len(values)
            columns += [i] * n_outputs
            is_category += [coded] * n_outputs
            self.names += table.value_names(i, values)
        self.columns = np.array(columns, dtype=np.int64)
        self.is_category = np.array(is_category, dtype=bool)

    @classmethod
    def of(cls, representation, inputs):
        """Return the expansion where there is anything to expand or to fill, else None.

        Parameters
        ----------
        representation : Representation
            What is explained.
        inputs : ndarray of shape (n, ...)
            Samples.

        Returns
        -------
        expansion : Expansion or None
        """
        table = representation.table
        if table is None or inputs.ndim != 2:
            return None
        return cls(table, inputs) if table.coded.any() or np.isnan(inputs).any() else None

    def __call__(self, inputs):
        """Expand samples.

        Parameters
        ----------
        inputs : ndarray of shape (n, n_columns)
            Samples, as `Table.inputs` returned them.

        Returns
        -------
        numbers : ndarray of shape (n, n_outputs)
        """
        parts = []
        for values, column, fill in zip(self._parts, inputs.T, self.fill, strict=True):
            if values is None:
                parts.append(np.where(np.isnan(column), fill, column)[:, None])
            else:
                parts.append((column[:, None] == values).astype(np.float64))
        return np.concatenate(parts, axis=1)

    def inverse(self, numbers):
        """Return the samples that are nearest to some numbers.

        Parameters
        ----------
        numbers : ndarray of shape (n, n_outputs)
            What `__call__` returned, or estimates of it.

        Returns
        -------
        inputs : ndarray of shape (n, n_columns)
            Of a column's categories that with the largest number.
        """
        inputs, start = np.empty((len(numbers), len(self._parts))), 0
        for i, values in enumerate(self._parts):
            stop = start + (1 if values is None else len(values))
            block = numbers[:, start:stop]
            if values is None:
                inputs[:, i] = block[:, 0]
            else:
                inputs[:, i] = values[block.argmax(axis=1)] if len(values) else 0.0
            start = stop
        return inputs
