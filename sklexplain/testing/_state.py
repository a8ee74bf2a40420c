"""Checks of an estimator's state: nothing that belongs to the caller or to an earlier fit."""

import copy
import importlib.util
import pickle
import warnings
from unittest import SkipTest

import numpy as np
from sklearn.base import clone
from sklearn.utils import get_tags
from torch import nn

from ..exceptions import SklexplainWarning
from ._common import (
    RESOURCES,
    assert_close,
    assert_raises,
    assert_same_results,
    dense,
    first_leaf,
    fit,
    fitted_names,
    hooked,
    methods_of_X,
    refit,
    results,
    with_own_network,
)


def check_clone_keeps_model(estimator, X, y):
    """Check that a clone explains the same model and gives the same result."""
    fitted = fit(estimator, X, y)
    again = clone(fitted)
    if hasattr(again, "estimator_") or hasattr(again, "input_shape_"):
        raise AssertionError("a clone is fitted")
    assert_close(fit(again, X, y).transform(X), fitted.transform(X), "clone")


def check_pickle(estimator, X, y):
    """Check that a fitted estimator can be pickled and copied."""
    fitted = fit(estimator, X, y)
    expected = fitted.transform(X)
    assert_close(pickle.loads(pickle.dumps(fitted)).transform(X), expected, "unpickled")
    assert_close(copy.deepcopy(fitted).transform(X), expected, "copied")


def check_keeps_nothing_of_X(estimator, X, y):
    """Check that nothing fitted refers to X, y or an array parameter of the caller's."""
    kinds = (np.float32, np.float64) if X.dtype.kind == "f" else (X.dtype,)
    for dtype in kinds:
        query = X.astype(dtype)
        expected = results(fit(estimator, query.copy(), _own(y)), query, y)
        buffer, buffer_y, fresh = query.copy(), _own(y), clone(estimator)
        arrays = {k: v.copy() for k, v in fresh.get_params(deep=False).items() if _is_array(v)}
        refit(fresh.set_params(**arrays), buffer, buffer_y)
        for array in (buffer, buffer_y, *arrays.values()):
            if array is not None:
                _write_garbage(array)
        what = f"after X, y and array parameters were overwritten ({np.dtype(dtype)})"
        assert_same_results(results(fresh, query, y), expected, what)


def _own(y):
    return None if y is None else np.array(y)


def _is_array(value):
    return isinstance(value, np.ndarray) and value.dtype.kind in "iuf"


def _write_garbage(array):
    if array.dtype.kind == "f":
        array[...] = 3.0 - 7.0 * array[::-1]
    else:
        array[...] = array[0]


def check_refit(estimator, X, y):
    """Check that fitting again gives what fitting once gives, with nothing left of the first."""
    expected = fit(estimator, X, y)
    again = refit(fit(estimator, 2 * X[::-1] + X.dtype.type(1), _reversed(y)), X, y)
    if vars(again).keys() != vars(expected).keys():
        different = sorted(vars(again).keys() ^ vars(expected).keys())
        raise AssertionError(f"after another fit, {different} come or go")
    assert_same_results(results(again, X, y), results(expected, X, y), "fitted twice")


def _reversed(y):
    return None if y is None else np.array(y)[::-1]


def check_failed_refit(estimator, X, y):
    """Check that a failed fit leaves an estimator as it was, and one of another shape replaces all.

    A network takes one shape only, so fitting on another one fails. An estimator that is fitted
    together with the explainer, or an explainer that trains itself, takes any shape.

    Raises
    ------
    AssertionError
        If it keeps a trace of the failed fit.
    """
    fitted = fit(estimator, X, y)
    expected, state = results(fitted, X, y), _shallow(fitted)
    broken = X.astype(np.float64)
    broken[2] = np.nan
    wrong = np.concatenate([X, X], axis=1)
    for bad, what in ((broken, "NaN"), (wrong, "another shape")):
        try:
            refit(fitted, bad, y)
        except Exception:
            if _shallow(fitted) != state:
                raise AssertionError(f"a failed fit ({what}) leaves other attributes") from None
            assert_same_results(results(fitted, X, y), expected, f"after a failed fit ({what})")
        else:
            if fitted.n_features_in_ != bad.shape[1] or fitted.input_shape_ != bad.shape[1:]:
                raise AssertionError(f"fit on {what} keeps the old shape of X") from None
            once = results(fit(estimator, bad, y), bad, y)
            assert_same_results(results(fitted, bad, y), once, f"refitted on {what}")


def _shallow(estimator):
    return {name: id(value) for name, value in vars(estimator).items()}


class _Interrupter:
    """Hook of a network that interrupts one of its calls."""

    def __init__(self, at=None):
        self.at, self.count = at, 0

    def __call__(self, module, args, output):
        self.count += 1
        if self.count == self.at:
            raise KeyboardInterrupt

    def __deepcopy__(self, memo):
        return self  # so that calls of copies of the network count too


def check_interrupted_fit(estimator, X, y):
    """Check that Ctrl-C in fit reaches the caller and leaves an earlier fit as it was."""
    own, network = with_own_network(estimator)
    if own is None:
        return
    expected = results(refit(own, X, y), X, y)
    calls = _Interrupter()
    with hooked(first_leaf(network), calls):
        fit(own, X, y)
    for at in sorted({1, calls.count // 2, calls.count} - {0}):
        state = _shallow(own)
        with hooked(first_leaf(network), _Interrupter(at)):
            try:
                refit(own, 2 * X, y)
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError(f"Ctrl-C at call {at} of the network in fit is swallowed")
        if _shallow(own) != state:
            raise AssertionError(f"Ctrl-C at call {at} of the network in fit leaves a mixture")
        assert_same_results(results(own, X, y), expected, "after an interrupted fit")


def check_names_reset(estimator, X, y):
    """Check that fit on an array forgets the column names of an earlier fit on a DataFrame."""
    if X.ndim != 2 or importlib.util.find_spec("pandas") is None:
        return
    import pandas as pd

    frame = pd.DataFrame(X, columns=[f"name{i}" for i in range(X.shape[1])])
    fitted = fit(estimator, frame, y)
    if list(fitted.feature_names_in_) != list(frame.columns):
        raise AssertionError("feature_names_in_ does not name the columns of a DataFrame")
    refit(fitted, X, y)
    if hasattr(fitted, "feature_names_in_"):
        raise AssertionError("feature_names_in_ is left from an earlier fit")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "X does not have valid feature names")
        fitted.transform(X)


def check_methods_change_nothing(estimator, X, y):
    """Check that public methods leave the estimator alone and give the same result twice."""
    fitted = fit(estimator, X, y)
    for name in methods_of_X(fitted):
        method = getattr(fitted, name)
        before = _deep(fitted)
        try:
            first, second = method(X), method(X)
        except ValueError:  # not with these parameters, and it may say so at the call
            first = second = None
        changed = [k for k, v in _deep(fitted).items() if k not in before or not v == before[k]]
        if changed or len(before) != len(vars(fitted)):
            raise AssertionError(f"{name} changes the estimator: {changed}")
        _assert_equal(first, second, f"{name}, called twice")


def _deep(estimator):
    values = {}
    for name, value in vars(estimator).items():
        content = value.tobytes() if isinstance(value, np.ndarray) else None
        values[name] = (id(value), content)
    return values


def _assert_equal(first, second, what):
    if isinstance(first, dict):
        first, second = list(first.values()), list(second.values())
    if isinstance(first, (tuple, list)):
        for a, b in zip(first, second, strict=True):
            _assert_equal(a, b, what)
    elif hasattr(first, "toarray") or isinstance(first, np.ndarray):
        a, b = dense(first), dense(second)
        if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            raise AssertionError(f"{what}: two results")
    elif isinstance(first, float) and first != second and not np.isnan(first):
        raise AssertionError(f"{what}: two results")


class _Unusable:
    """Not a value of any parameter: using it fails."""

    def _refuse(self, *args):
        raise AssertionError("a parameter is read after fit")

    __bool__ = __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __iter__ = __len__ = _refuse
    __call__ = __getitem__ = __contains__ = __int__ = __float__ = __index__ = _refuse
    __hash__ = object.__hash__


def check_parameters_count_at_fit(estimator, X, y):
    """Check that parameters set after fit wait for the next one, but for those of resources."""
    fitted = fit(estimator, X, y)
    expected = dense(fitted.transform(X))
    for name, value in fitted.get_params(deep=False).items():
        if name == "estimator" or name in RESOURCES:
            continue
        fitted.set_params(**{name: _Unusable()})
        if not _has_tags(fitted):  # what an estimator is cannot wait for the next fit
            fitted.set_params(**{name: value})
            continue
        try:
            found = dense(fitted.transform(X))
        except Exception as error:
            raise AssertionError(f"transform reads {name} as it is after fit: {error}") from error
        fitted.set_params(**{name: value})
        if not np.array_equal(found, expected):
            raise AssertionError(f"{name} set after fit changes transform")


def _has_tags(estimator):
    try:
        get_tags(estimator)
    except AssertionError:
        return False
    return True


def check_fitted_estimator_keeps_parameters(estimator, X, y):
    """Check that parameters of an explained, fitted estimator cannot be set through the explainer.

    It is not a clone but the user's own; setting a parameter could make it anew.
    """
    explained = getattr(estimator, "estimator", None)
    if not hasattr(explained, "get_params"):
        return
    model = fit(estimator, X, y).estimator_
    names = [name for name in model.get_params() if "__" not in name]
    if not names:
        return
    explainer = refit(clone(estimator).set_params(estimator=model), X, y)
    name = f"estimator__{names[0]}"
    value = model.get_params()[names[0]]
    assert_raises(ValueError, ["fitted"], lambda: explainer.set_params(**{name: value}), name)


def check_pickle_size(estimator, X, y):
    """Check that a saved file holds the model and the results, but not the samples.

    Up to 1,000 of them may be kept; fitted attributes that are public may grow with X.

    Raises
    ------
    AssertionError
        If a file grows with the number of samples.
    """
    sizes = []
    for n in (1_000, 1_600):
        many = np.resize(X, (n, *X.shape[1:]))
        many = many + np.random.RandomState(0).normal(scale=1e-2, size=many.shape).astype(X.dtype)
        fitted = fit(estimator, many, None if y is None else np.resize(y, n))
        sizes.append(len(pickle.dumps(fitted)) - len(pickle.dumps(_public(fitted))))
    grown, allowed = sizes[1] - sizes[0], 4096
    if grown > allowed:
        raise AssertionError(
            f"600 more samples of {X[:1].nbytes} bytes: a file is larger by {grown} bytes that "
            "no public attribute shows"
        )


def _public(fitted):
    declared = getattr(type(fitted), "_kept_arrays", ())
    names = [n for n in (*fitted_names(fitted), *declared) if n in vars(fitted)]
    values = {name: vars(fitted)[name] for name in names}
    return {k: v for k, v in values.items() if not isinstance(v, nn.Module)}


def check_skops(estimator, X, y):
    """Check that an explainer of a scikit-learn model or of an Autoencoder can be saved by skops.

    Torch modules of the user's own cannot be saved this way.

    Raises
    ------
    SkipTest
        If skops is not installed.
    """
    if isinstance(getattr(estimator, "estimator", None), nn.Module):
        return
    if importlib.util.find_spec("skops") is None:
        raise SkipTest("skops is not installed")
    import skops.io

    fitted = fit(estimator, X, y)
    saved = skops.io.dumps(fitted)
    loaded = skops.io.loads(saved, trusted=skops.io.get_untrusted_types(data=saved))
    assert_close(loaded.transform(X), fitted.transform(X), "loaded by skops")


# Warnings name the first frame outside the library, and this file is inside.
_CALLER = "<file of a user>"
_SOURCE = "def call(function, *args):\n    return function(*args)\n"


def check_warnings_name_the_caller(estimator, X, y):
    """Check that the library's warnings point at the user's line."""
    user = {"__name__": "file_of_a_user"}
    exec(compile(_SOURCE, _CALLER, "exec"), user)
    # Seconds since 1970, which a network in single precision cannot tell apart.
    coarse = X.astype(np.float64) + 1.7e9
    fresh = clone(estimator)
    for name in ("fit", "fit_transform", "transform", "score"):
        if not hasattr(fresh, name):
            continue
        args = (coarse,) if y is None else (coarse, y)
        if name == "transform":
            args = args[:1]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                user["call"](getattr(fresh, name), *args)
            except ValueError:  # such numbers may be refused; a fit goes first in any case
                refit(fresh, X, y)
        for warning in caught:
            ours = issubclass(warning.category, SklexplainWarning)
            if ours and warning.filename != _CALLER:
                place = f"{warning.filename}:{warning.lineno}"
                raise AssertionError(f"{name}: a warning points at {place}: {warning.message}")
