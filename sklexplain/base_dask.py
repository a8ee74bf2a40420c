"""What explainers do with samples in dask: results made lazily, and a part of them to fit on."""

from __future__ import annotations

from functools import wraps

from sklearn.utils.validation import check_is_fitted

from .utils import (
    dask_kind,
    dask_text,
    drawn_rows,
    explained_by_blocks,
    methods_by_blocks,
    stand_in,
    validate_X,
    warn,
)


class SamplesInDask:
    """A part of `BaseExplainer`."""

    # Why `fit` cannot do with a random sample of what is in dask; None: it can.
    _needs_all: str | None = None
    # Whether `fit` goes through all of what is in dask itself, not through a random sample only.
    _merges_blocks = False
    # What is in dask while `fit` has a random sample of it.
    _whole = None

    def _drawn(self, X, y, fit_params):
        """Draw samples of a collection of dask, to be fitted on in its place."""
        name = type(self).__name__
        if self._needs_all is not None:
            raise TypeError(
                f"{name} {self._needs_all}, but X is {dask_text(X)}; pass X.compute(), or a part "
                "of it that fits into memory. What is to be explained may be in dask."
            )
        if fit_params:
            raise TypeError(
                f"X is {dask_text(X)}, of which a random part is fitted on, and it is not known "
                f"which part of {', '.join(fit_params)} belongs to it; fit the estimator before."
            )
        rows, y, n = drawn_rows(X, y, self.seed_)
        if len(rows) < n or self._merges_blocks:
            self._whole = X
        if len(rows) < n and not self._merges_blocks:
            warn(
                f"X has {n} samples in dask: {name} is fitted on {len(rows)} of them, drawn at "
                "random (by random_state); a mean baseline is that of all. To fit on others, pass "
                "these in memory."
            )
        return rows, y

    def _over_blocks(self, name, X, form, args, kwargs):
        """Make the results of a method with a result for each sample lazily.

        Parameters
        ----------
        name : str
            The method.
        X : dask Array or DataFrame
            Samples.
        form : tuple or callable
            See `by_blocks`.
        args, kwargs : tuple and dict
            What else the method was given.

        Returns
        -------
        results : dask Array or DataFrame

        Raises
        ------
        TypeError
            If it cannot be told beforehand what results look like, or dask has no such container.
        ValueError
            If X is not of the kind given to ``fit``, or a DataFrame is to hold sparse results.
        """
        check_is_fitted(self)
        container = self._container() if name == "transform" else "default"
        if container not in ("default", "pandas"):
            raise TypeError(
                f"set_output(transform={container!r}) has no lazy form in dask; use 'pandas' or "
                "'default'."
            )
        if not self._texts:
            validate_X(self, stand_in(X), reset=False, raw=dask_kind(X) == "frame")
        form = form(self, *args, **kwargs) if callable(form) else form
        names = None if container == "default" else self.get_feature_names_out()
        if names is not None and any(form[2:]):
            raise ValueError(
                "pandas output does not hold the sparse results of this "
                f"{type(self).__name__}; use set_output(transform='default')."
            )
        return explained_by_blocks(self, X, name, form, args, kwargs, names)

    def _row_form(self):
        """Shape and dtype of what `transform` returns for one sample, and True if in a CSR matrix.

        For subclasses; without it they explain what is in memory only.

        Raises
        ------
        TypeError
            If the class has no such method of its own.
        """
        raise TypeError(
            f"{type(self).__name__} cannot say what its results look like before they are there "
            "(it has no _row_form), so X must be in memory; pass X.compute(), or map its "
            "transform over the blocks: X.map_blocks(explainer.transform)."
        )

    def _not_by_blocks(self, X):
        methods = ", ".join(methods_by_blocks(self))
        return TypeError(
            f"X is {dask_text(X)}, but this method of {type(self).__name__} needs all samples in "
            f"memory; pass X.compute(), or a random part of it. Block by block there are {methods}."
        )


def then_by_blocks(fit_transform):
    """Have what is in dask explained lazily once it is fitted on."""

    @wraps(fit_transform)
    def of_any(self, X, y=None, **fit_params):
        if dask_kind(X) is None:
            return fit_transform(self, X, y, **fit_params)
        return self.fit(X, y, **fit_params).transform(X)

    return of_any
