"""The door of every explainer: samples are looked at, cast and let in."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from .exceptions import ChangedModelWarning
from .representation import NotFiniteError, checked_texts, not_finite_text
from .utils import (
    Rows,
    cast_checked,
    check_half,
    dask_kind,
    first_missing,
    not_finite_error,
    numpy_dtype_of,
    on_cpu_by_default,
    read_by_rows,
    validate_X,
    warn,
)


class Door:
    """The part of `BaseExplainer` that lets samples in, in every public method."""

    @contextmanager
    def _door(self, X, by_rows=False):
        """Let samples in: for every public method that takes X.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        by_rows : bool, default=False
            Whether large arrays may be read and cast a few rows at a time, as `Rows`.

        Yields
        ------
        inputs : ndarray of shape (n_samples, ...)
            As they enter the network (see `_handed`), which can be run while the context lasts.

        Raises
        ------
        ValueError
            If they are not of the kind given to ``fit``.
        """
        with self._opened(X, by_rows) as (inputs, checked):
            yield self._handed(inputs, checked)

    @contextmanager
    def _opened(self, X, by_rows=False):
        """Let samples in, and keep hold of them in raw units: yields (inputs, validated X)."""
        check_is_fitted(self)
        if dask_kind(X) is not None:
            raise self._not_by_blocks(X)
        inputs = self._rows_of(X) if by_rows else None
        if inputs is None:
            X = self._like_fitted(X)
        elif not isinstance(X, np.ndarray):
            X = Rows(X, X.dtype)
        with on_cpu_by_default(), self._representation.reading():
            if inputs is None:
                inputs = self._cast(self._representation.inputs(X))
            with self._inside(inputs):
                self._warn_if_changed()
                yield inputs, X

    def _rows_of(self, X):
        """Read large samples by rows; None where they have to be read at once.

        So they are where something has to be said of them, and where a step or a function of the
        user's is to see them as they are.

        Parameters
        ----------
        X : object
            Samples.

        Returns
        -------
        rows : Rows or None
        """
        representation = self._representation
        if self._raw or self._texts or representation.takes_raw or representation.takes_integers:
            return None
        if representation.entry_dtype in (torch.float16, torch.bfloat16):
            return None
        if callable(getattr(self._params_at_fit, "baseline", None)):
            return None
        rows = read_by_rows(X, self.input_shape_, numpy_dtype_of(representation.input_dtype))
        if rows is not None:
            self._like_fitted(np.asarray(X[:1]))
        return rows

    def _like_fitted(self, X):
        """Validate samples that are to be of the kind given to ``fit``."""
        if self._texts:
            X = checked_texts(X, type(self).__name__)
        else:
            X = validate_X(self, X, reset=False, raw=self._raw, allow_nan=True)
        if not self._raw:
            self._check_missing(X)
        return X

    def _warn_if_changed(self):
        if self._keeps_results and self._representation.fingerprint() != self._fingerprint:
            warn(
                f"the network's weights have changed since this {type(self).__name__} was "
                "fitted, and what it has kept is of the network as it was; fit it again.",
                ChangedModelWarning,
            )

    def _handed(self, inputs, X):
        """Return what hooks are handed of samples: their inputs, unless X itself tells more.

        Parameters
        ----------
        inputs : ndarray of shape (n_samples, ...)
            Samples as they enter the network.
        X : ndarray or DataFrame of shape (n_samples, ...)
            The same in raw units, validated.

        Returns
        -------
        inputs : object
        """
        return inputs

    @contextmanager
    def _inside(self, inputs):
        """Open a session; say which sample's output is not finite, and if weights change in it."""
        representation = self._representation
        # Only another thread can change weights meanwhile.
        watched = representation.fingerprint() if threading.active_count() > 1 else None
        limit = representation.limit
        try:
            with representation.session(), torch.no_grad():
                yield
        except NotFiniteError as error:
            raise self._located(error, inputs) from None
        except RuntimeError as error:
            if "modified by an inplace operation" in str(error) and watched is not None:
                raise _changed_meanwhile() from error
            raise
        if watched is not None and watched != representation.fingerprint():
            raise _changed_meanwhile()
        if representation.limit != limit and getattr(self, "verbose", 0):
            print(
                f"memory was too small for so many rows; at most {representation.limit} run at "
                f"once in this {type(self).__name__} from now on."
            )

    def _located(self, error, inputs):
        representation = self._representation
        rows = self._most_rows(getattr(self, "batch_size", None) or "auto")
        position = representation.not_finite_sample(inputs, rows)
        if position is not None and np.isnan(inputs[position]).any():
            return self._missing_error(inputs[position], position)
        if position is None:
            return ValueError(not_finite_text("inputs between the samples and the baseline"))
        return ValueError(not_finite_text(f"sample {position}"))

    def _cast(self, inputs):
        """Check that the network's dtype can hold the inputs."""
        representation = self._representation
        if representation.takes_integers and inputs.dtype.kind not in "iu":
            raise TypeError(
                f"the network takes integers (token numbers, for example) but X has dtype "
                f"{inputs.dtype}; pass X.astype('int64')."
            )
        names = getattr(self, "feature_names_in_", None)
        if names is not None and representation.head is not None:
            names = names[representation.head.columns]
        inputs = cast_checked(inputs, numpy_dtype_of(representation.input_dtype), names)
        check_half(inputs, representation.entry_dtype, names)
        return inputs

    def _check_missing(self, X):
        """Raise unless the network takes missing values, which a trial run shows."""
        gap = first_missing(X)
        if gap is not None and not self._representation.takes(X[gap : gap + 1]):
            raise self._missing_error(X[gap], gap)

    def _missing_error(self, sample, row, fix=None):
        names = getattr(self, "feature_names_in_", None)
        head = None if "_representation_of_fit" not in vars(self) else self._representation.head
        if names is not None and head is not None:
            names = names[head.columns]
        where = tuple(np.argwhere(np.isnan(sample))[0].tolist())
        return not_finite_error(sample, where, row, names, self, fix)


def _changed_meanwhile():
    return RuntimeError(
        "the network's weights changed while it was being explained (another thread trains it); "
        "the result would be of no network there ever was. Explain a copy of it, or wait."
    )
