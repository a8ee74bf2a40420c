"""What a representation makes of raw samples: numbers that enter its torch path, and back."""

from contextlib import nullcontext

import numpy as np
from sklearn.utils import _safe_indexing

from ..utils import check_columns_numeric, check_finite
from ._frames import container_of
from ._heads import named, numbers_of


class RawInputs:
    """The entry of a `Representation`: its head, its table, or columns as they are.

    Attributes
    ----------
    estimator : nn.Module or fitted estimator
        What is explained.
    head : Head or None
        Preprocessing run as it is, before the torch path.
    table : Table or None
        Where the path begins with a black box: raw samples as numbers, and back.
    probe : Probe
        Facts found by running it.
    """

    @property
    def takes_raw(self):
        """Whether samples may be other than finite numbers: some step takes them as they are."""
        return self.head is not None or self.table is not None or not self._read.all()

    @property
    def keeps_samples(self):
        """Whether `restored` gives all of the samples back: no head has made numbers of them."""
        return self.table is not None or (self.head is None and bool(self._read.all()))

    def reading(self):
        """Context in which `inputs` can be called: values unknown to the table last so long."""
        return nullcontext() if self.table is None else self.table.reading()

    def restored(self, inputs):
        """Turn inputs into raw samples again, where there is a table; else return them.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            What `inputs` returned.

        Returns
        -------
        X : ndarray or DataFrame of shape (n, *shape)
        """
        return inputs if self.table is None else self.table.restored(inputs)

    def framed(self, inputs, X):
        """Return inputs in the container of samples: a DataFrame if these are one.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            As `inputs` returns them.
        X : ndarray or DataFrame of shape (n, ...)
            Samples.

        Returns
        -------
        rows : ndarray or DataFrame of shape (n, *shape)
            Columns that a head has made are named after the raw one, and numbered where there are
            several of it.
        """
        if self.table is not None:
            rows = self.table.restored(inputs)
        elif hasattr(X, "columns"):
            names = list(X.columns)
            if self.head is not None:
                names = _numbered(names, self.head.columns)
            rows = container_of(X).whole(inputs, names)
        else:
            return inputs
        if hasattr(X, "index") and hasattr(rows, "index"):
            rows.index = X.index
        return rows

    def inputs(self, X):
        """Numbers at the entry of the torch path (or of the black box), on the CPU.

        Parameters
        ----------
        X : ndarray or DataFrame
            Validated samples in raw units.

        Returns
        -------
        inputs : ndarray of shape (n, *shape)
            X itself, or what the head made of it, in float64.

        Raises
        ------
        ValueError
            If the head's output is not finite, or X holds other things than numbers and there is
            no head to encode them.
        """
        if self.table is not None:
            return self.table.inputs(X)
        if self.head is None:
            return _as_numbers(X) if self._read.all() else self._read_numbers(X)
        inputs = self.head(self._copied(X))
        bad = ~np.isfinite(inputs).all(axis=0)
        if bad.any():
            column = self.head.columns[np.flatnonzero(bad)[0]]
            names = getattr(self.estimator, "feature_names_in_", None)
            column = column if names is None else repr(str(names[column]))
            raise ValueError(
                f"column {column} still contains NaN or infinity after preprocessing; impute it "
                "in the Pipeline (SimpleImputer) or clean it."
            )
        return inputs

    def _read_numbers(self, X):
        """Return the columns that some step reads as numbers, and zeros for the others."""
        if isinstance(X, np.ndarray) and X.dtype.kind in "biuf" and np.isfinite(X).all():
            return X
        part = _safe_indexing(X, np.flatnonzero(self._read), axis=1)
        check_columns_numeric(part)
        inputs = numbers_of(X, self._read)
        check_finite(inputs, getattr(X, "columns", None), self.estimator)
        return inputs

    def slopes(self, X):
        """Return derivatives of `inputs` along raw columns, at each sample.

        Parameters
        ----------
        X : ndarray or DataFrame
            Validated samples in raw units.

        Returns
        -------
        slopes : ndarray of shape (n, n_inputs) or None
            See `Head.slopes`; None where inputs are the raw columns.
        """
        return None if self.head is None else self.head.slopes(self._copied(X))

    def _copied(self, X):
        """X as the estimator was fitted on it, and free to be written into, as an imputer may."""
        if isinstance(X, list):  # of texts
            return X
        copies = isinstance(X, np.ndarray) or hasattr(X, "iloc")  # others cannot be written into
        return named(X.copy() if copies else X, self.estimator)

    def zeros(self, inputs):
        """Row of zeros in raw units, as they enter the torch path.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            Samples, for shape and dtype.

        Returns
        -------
        zeros : ndarray of shape (1, *shape)
            Of the outputs of a head, see `zeros_of`.
        """
        zeros = np.zeros((1, *inputs.shape[1:]), dtype=inputs.dtype)
        if self.probe.head_zeros is not None:
            zeros[:] = self.probe.head_zeros
        return zeros


def _as_numbers(X):
    """X as numbers, without column names; raise a ValueError if it holds anything else."""
    if not hasattr(X, "columns") and X.dtype.kind in "biuf":
        return X
    check_columns_numeric(X)
    try:
        return np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"X holds values that are no numbers ({error}); encode them in a Pipeline around the "
            "estimator (OneHotEncoder, OrdinalEncoder)."
        ) from None


def _numbered(names, columns):
    """Names of columns that were made of others: ``age``, ``site_0``, ``site_1``."""
    columns = columns.tolist()
    return [
        names[j] if columns.count(j) == 1 else f"{names[j]}_{columns[:i].count(j)}"
        for i, j in enumerate(columns)
    ]
