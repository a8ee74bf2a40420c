"""Checks of inputs: parameters, X of every kind, and what must be refused."""

from inspect import signature

import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ._common import assert_close, assert_raises, dense, fit, refit


def check_parameter_names(estimator, X, y):
    """Check that no parameter hides a method or property of the class."""
    kind = type(estimator)
    taken = [name for name in signature(kind.__init__).parameters if name != "self"]
    taken = [name for name in taken if hasattr(kind, name)]
    if taken:
        raise AssertionError(f"the parameters {taken} have the names of methods or properties")


def check_fit_returns_self(estimator, X, y):
    """Check that fit returns the estimator and leaves its parameters alone."""
    fresh = clone(estimator)
    before = {k: id(v) for k, v in fresh.get_params(deep=False).items()}
    if refit(fresh, X, y) is not fresh:
        raise AssertionError("fit does not return self")
    after = {k: id(v) for k, v in fresh.get_params(deep=False).items()}
    if after != before:
        raise AssertionError("fit changes parameters")


def check_shapes_recorded(estimator, X, y):
    """Check that fit records n_features_in_ and the shape of a sample."""
    fitted = fit(estimator, X, y)
    if fitted.n_features_in_ != X.shape[1] or fitted.input_shape_ != X.shape[1:]:
        raise AssertionError("n_features_in_ or input_shape_ does not give X's shape")


def check_not_fitted(estimator, X, y):
    """Check that transform before fit is a NotFittedError."""
    fresh = clone(estimator)
    assert_raises(NotFittedError, ["fit"], lambda: fresh.transform(X), "not fitted")


def check_not_finite(estimator, X, y):
    """Check that NaN and infinity in X are located, in fit and in transform."""
    fitted = fit(estimator, X, y)
    for value, word in ((np.nan, "NaN"), (np.inf, "infinity")):
        bad = X.astype(np.float64)
        bad[(2, *(0,) * (X.ndim - 1))] = value
        words = [word, "row 2"]
        assert_raises(ValueError, words, lambda bad=bad: fit(estimator, bad, y), f"fit, {word}")
        assert_raises(ValueError, words, lambda bad=bad: fitted.transform(bad), word)


def check_wrong_shape(estimator, X, y):
    """Check that another size of any axis, or another number of axes, is an error naming both."""
    fitted = fit(estimator, X, y)
    for axis in range(1, X.ndim):
        wrong = np.delete(X, 0, axis=axis) if X.shape[axis] > 1 else np.repeat(X, 2, axis=axis)
        words = [str(wrong.shape[axis]), str(X.shape[axis])]
        assert_raises(ValueError, words, lambda X=wrong: fitted.transform(X), f"axis {axis}")
    assert_raises(ValueError, [], lambda: fitted.transform(X[..., None]), "an axis more")
    assert_raises(ValueError, [], lambda: fitted.transform(X[0]), "an axis less")


def check_empty(estimator, X, y):
    """Check that no samples are an error, in fit and in transform."""
    fitted = fit(estimator, X, y)
    empty_y = None if y is None else y[:0]
    assert_raises(ValueError, ["0 sample"], lambda: fit(estimator, X[:0], empty_y), "fit, empty")
    assert_raises(ValueError, ["0 sample"], lambda: fitted.transform(X[:0]), "empty")


def check_input_kinds(estimator, X, y):
    """Check that lists, tensors and other float types give the same result."""
    fitted = fit(estimator, X, y)
    X32 = X.astype(np.float32)
    expected = fitted.transform(X32)
    kinds = {
        "float64": X32.astype(np.float64),
        "tensor": torch.from_numpy(X32),
        "list": X32.tolist(),
        "Fortran order": np.asfortranarray(X32),
    }
    for kind, same in kinds.items():
        assert_close(fitted.transform(same), expected, kind)


def check_batch_equals_samples(estimator, X, y):
    """Check that a batch gives what its samples give one by one."""
    fitted = fit(estimator, X, y)
    whole = dense(fitted.transform(X))
    single = np.concatenate([dense(fitted.transform(X[i : i + 1])) for i in range(len(X))])
    assert_close(single, whole, "one by one")


def check_order_and_subset(estimator, X, y):
    """Check that order and company of samples change nothing."""
    fitted = fit(estimator, X, y)
    order = np.random.RandomState(0).permutation(len(X))[: len(X) // 2]
    assert_close(fitted.transform(X[order]), dense(fitted.transform(X))[order], "reordered")


def check_batch_size(estimator, X, y):
    """Check that batch_size changes no result, and the last, partial batch is not lost."""
    whole = fit(estimator, X, y)
    if "batch_size" not in whole.get_params() or not hasattr(whole, "estimator"):
        return  # the batch size of training does change a net
    expected = whole.transform(X[:7])
    small = fit(clone(estimator).set_params(batch_size=3), X, y)
    assert_close(small.transform(X[:7]), expected, "batch_size=3")
    whole.set_params(batch_size=3)
    assert_close(whole.transform(X[:7]), expected, "batch_size=3 after fit")


def check_repeatable(estimator, X, y):
    """Check that the same random_state gives the same result."""
    first, second = fit(estimator, X, y), fit(estimator, X, y)
    for again in (first, second):
        if not np.array_equal(dense(first.transform(X)), dense(again.transform(X))):
            raise AssertionError("the same random_state gives another result")
