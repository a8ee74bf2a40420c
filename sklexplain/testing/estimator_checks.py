"""Checks for estimators that take samples with any number of axes.

scikit-learn's own `parametrize_with_checks` covers two-dimensional X. The checks here cover what
it skips: series (n, channels, time), images (n, channels, height, width), batches, and the promise
that a model handed in comes back bit-identical. They can be used for an explainer of one's own.
"""

import copy
import pickle
from functools import partial

import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ..representation import torch_modules

__all__ = ["nd_checks", "parametrize_nd_checks"]

_RTOL = 1e-4


def nd_checks(estimator, X, y=None):
    """Yield every check, ready to be called without arguments.

    Parameters
    ----------
    estimator : estimator
        An unfitted explainer or transformer with ``random_state`` set; never changed.
    X : ndarray of shape (n_samples, ...)
        Samples it can be fitted on, at least seven.
    y : array-like or None, default=None
        Targets for ``fit``.

    Yields
    ------
    check : callable
        Raises an error that says what is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.nets import Autoencoder
    >>> from sklexplain.testing.estimator_checks import nd_checks
    >>> X = np.random.RandomState(0).normal(size=(9, 2, 6))
    >>> checks = list(nd_checks(Autoencoder(max_epochs=1, patience=1, random_state=0), X))
    >>> len(checks)
    15
    """
    if len(X) < 7:
        raise ValueError(f"X has {len(X)} samples; the checks need at least 7.")
    for check in _CHECKS:
        yield partial(check, estimator, X, y)


def parametrize_nd_checks(cases):
    """Pytest decorator that runs every check on every case.

    Parameters
    ----------
    cases : list of (estimator, X) or (estimator, X, y)
        See `nd_checks`.

    Returns
    -------
    decorator : pytest.MarkDecorator
        Of a test function that takes ``check`` and calls it.
    """
    import pytest

    checks, ids = [], []
    for number, case in enumerate(cases):
        for check in nd_checks(*case):
            name = type(case[0]).__name__
            checks.append(check)
            ids.append(f"{number}-{name}-{case[1].ndim}d-{check.func.__name__}")
    return pytest.mark.parametrize("check", checks, ids=ids)


def _fit(estimator, X, y):
    return clone(estimator).fit(X) if y is None else clone(estimator).fit(X, y)


def _dense(values):
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


def _assert_close(actual, desired, what):
    actual, desired = _dense(actual), _dense(desired)
    if actual.shape != desired.shape:
        raise AssertionError(f"{what}: shape {actual.shape} instead of {desired.shape}")
    scale = np.abs(desired).max() or 1.0
    error = np.abs(actual - desired).max() / scale if desired.size else 0.0
    if not error <= _RTOL:
        raise AssertionError(f"{what}: differs by {error:.2g} of the largest value")


def _assert_raises(errors, words, call, what):
    try:
        call()
    except errors as error:
        missing = [word for word in words if word.lower() not in str(error).lower()]
        if missing:
            raise AssertionError(f"{what}: the message lacks {missing}: {error}") from error
    else:
        raise AssertionError(f"{what}: no error")


def check_fit_returns_self(estimator, X, y):
    """Check that fit returns the estimator and leaves its parameters alone."""
    fresh = clone(estimator)
    before = {k: id(v) for k, v in fresh.get_params(deep=False).items()}
    fitted = fresh.fit(X) if y is None else fresh.fit(X, y)
    if fitted is not fresh:
        raise AssertionError("fit does not return self")
    after = {k: id(v) for k, v in fresh.get_params(deep=False).items()}
    if after != before:
        raise AssertionError("fit changes parameters")


def check_shapes_recorded(estimator, X, y):
    """Check that fit records n_features_in_ and the shape of a sample."""
    fitted = _fit(estimator, X, y)
    if fitted.n_features_in_ != X.shape[1] or fitted.input_shape_ != X.shape[1:]:
        raise AssertionError("n_features_in_ or input_shape_ does not tell X's shape")


def check_batch_equals_samples(estimator, X, y):
    """Check that a batch gives what its samples give one by one."""
    fitted = _fit(estimator, X, y)
    whole = _dense(fitted.transform(X))
    single = np.concatenate([_dense(fitted.transform(X[i : i + 1])) for i in range(len(X))])
    _assert_close(single, whole, "one by one")


def check_order_and_subset(estimator, X, y):
    """Check that order and company of samples change nothing."""
    fitted = _fit(estimator, X, y)
    order = np.random.RandomState(0).permutation(len(X))[: len(X) // 2]
    _assert_close(fitted.transform(X[order]), _dense(fitted.transform(X))[order], "reordered")


def check_batch_size(estimator, X, y):
    """Check that batch_size changes no result, and the last, partial batch is not lost."""
    whole = _fit(estimator, X, y)
    if "batch_size" not in whole.get_params() or not hasattr(whole, "estimator"):
        return  # the batch size of training does change a net
    small = _fit(clone(estimator).set_params(batch_size=3), X, y)
    _assert_close(small.transform(X[:7]), whole.transform(X[:7]), "batch_size=3")


def check_repeatable(estimator, X, y):
    """Check that the same random_state gives the same result."""
    first, second = _fit(estimator, X, y), _fit(estimator, X, y)
    for again in (first, second):
        if not np.array_equal(_dense(first.transform(X)), _dense(again.transform(X))):
            raise AssertionError("the same random_state gives another result")


def check_generators_untouched(estimator, X, y):
    """Check that no global random generator moves."""
    fresh = clone(estimator)
    if "random_state" in fresh.get_params():
        fresh.set_params(random_state=None)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()
    fitted = fresh.fit(X) if y is None else fresh.fit(X, y)
    fitted.transform(X)
    numpy_after = np.random.get_state()
    same = all(np.array_equal(a, b) for a, b in zip(numpy_before, numpy_after, strict=True))
    if not same or not torch.equal(torch_before, torch.get_rng_state()):
        raise AssertionError("a global random generator was used")


def _snapshot(module):
    return (
        {k: v.clone() for k, v in module.state_dict().items()},
        [m.training for m in module.modules()],
        [(p.requires_grad, p.grad) for p in module.parameters()],
        [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in module.modules()
        ],
    )


def check_model_unchanged(estimator, X, y):
    """Check that a model handed in comes back bit-identical: state, modes, gradients, hooks."""
    explained = getattr(estimator, "estimator", None)
    if explained is None:
        return
    try:
        modules = list(torch_modules(explained))
    except AttributeError:  # unfitted: it is cloned, and this one has no module yet
        return
    before = [_snapshot(module) for module in modules]
    fitted = _fit(estimator, X, y)
    fitted.transform(X)
    for module, (state, *rest) in zip(modules, before, strict=True):
        new_state, *new_rest = _snapshot(module)
        if new_rest != rest or any(not torch.equal(state[k], v) for k, v in new_state.items()):
            raise AssertionError("the model was changed")


def check_clone_keeps_model(estimator, X, y):
    """Check that a clone explains the same model and gives the same result."""
    fitted = _fit(estimator, X, y)
    again = clone(fitted)
    if hasattr(again, "estimator_") or hasattr(again, "input_shape_"):
        raise AssertionError("a clone is fitted")
    _assert_close(_fit(again, X, y).transform(X), fitted.transform(X), "clone")


def check_pickle(estimator, X, y):
    """Check that a fitted estimator can be pickled and copied."""
    fitted = _fit(estimator, X, y)
    expected = fitted.transform(X)
    _assert_close(pickle.loads(pickle.dumps(fitted)).transform(X), expected, "unpickled")
    _assert_close(copy.deepcopy(fitted).transform(X), expected, "copied")


def check_not_fitted(estimator, X, y):
    """Check that transform before fit is a NotFittedError."""
    fresh = clone(estimator)
    _assert_raises(NotFittedError, ["fit"], lambda: fresh.transform(X), "not fitted")


def check_not_finite(estimator, X, y):
    """Check that NaN and infinity are located, in fit and in transform."""
    fitted = _fit(estimator, X, y)
    for value, word in ((np.nan, "NaN"), (np.inf, "infinity")):
        bad = X.astype(np.float64)
        bad[(2, *(0,) * (X.ndim - 1))] = value
        words = [word, "row 2"]
        _assert_raises(ValueError, words, lambda bad=bad: _fit(estimator, bad, y), f"fit, {word}")
        _assert_raises(ValueError, words, lambda bad=bad: fitted.transform(bad), word)


def check_wrong_shape(estimator, X, y):
    """Check that another size of any axis, or another number of axes, is an error naming both."""
    fitted = _fit(estimator, X, y)
    for axis in range(1, X.ndim):
        wrong = np.delete(X, 0, axis=axis) if X.shape[axis] > 1 else np.repeat(X, 2, axis=axis)
        words = [str(wrong.shape[axis]), str(X.shape[axis])]
        _assert_raises(ValueError, words, lambda X=wrong: fitted.transform(X), f"axis {axis}")
    _assert_raises(ValueError, [], lambda: fitted.transform(X[..., None]), "an axis more")
    _assert_raises(ValueError, [], lambda: fitted.transform(X[0]), "an axis less")


def check_empty(estimator, X, y):
    """Check that no samples are an error, in fit and in transform."""
    fitted = _fit(estimator, X, y)
    empty_y = None if y is None else y[:0]
    _assert_raises(ValueError, ["0 sample"], lambda: _fit(estimator, X[:0], empty_y), "fit, empty")
    _assert_raises(ValueError, ["0 sample"], lambda: fitted.transform(X[:0]), "empty")


def check_input_kinds(estimator, X, y):
    """Check that lists, tensors and other float types give the same result."""
    fitted = _fit(estimator, X, y)
    X32 = X.astype(np.float32)
    expected = fitted.transform(X32)
    kinds = {
        "float64": X32.astype(np.float64),
        "tensor": torch.from_numpy(X32),
        "list": X32.tolist(),
        "Fortran order": np.asfortranarray(X32),
    }
    for kind, same in kinds.items():
        _assert_close(fitted.transform(same), expected, kind)


_CHECKS = (
    check_fit_returns_self,
    check_shapes_recorded,
    check_batch_equals_samples,
    check_order_and_subset,
    check_batch_size,
    check_repeatable,
    check_generators_untouched,
    check_model_unchanged,
    check_clone_keeps_model,
    check_pickle,
    check_not_fitted,
    check_not_finite,
    check_wrong_shape,
    check_empty,
    check_input_kinds,
)
