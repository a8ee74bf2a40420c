"""Every check catches an explainer that is wrong in just this respect, and passes a good one."""

import copy
import warnings
import zlib

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklexplain.exceptions import ChangedModelWarning, DataConversionWarning, RandomModelWarning
from sklexplain.representation import fitted_estimator, is_fitted, shared_or_cloned
from sklexplain.testing import TOPICS, nd_checks, parametrize_nd_checks
from sklexplain.testing import estimator_checks as checks
from sklexplain.utils import as_array_like, numpy_dtype_of, validate_X, warn
from tests.cases import make_net, make_X


class Good(TransformerMixin, BaseEstimator):
    """Activations minus their mean, written out without the base class of the library."""

    _keeps_results = True

    def __init__(self, estimator, *, scale=2.0, offset=None, batch_size=4, random_state=None):
        self.estimator = estimator
        self.scale = scale
        self.offset = offset
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X, y=None):
        fresh = copy.copy(self)
        for name in vars(self).keys() - self.get_params(deep=False).keys():
            delattr(fresh, name)
        fresh._learn(X, y)
        vars(self).clear()
        vars(self).update(vars(fresh))
        return self

    def _learn(self, X, y):
        X = as_array_like(X)
        checked = validate_X(self, X, reset=True)
        self.scale_ = self.scale
        self.offset_ = 0.0 if self.offset is None else np.array(self.offset)
        self.estimator_ = fitted_estimator(self.estimator, checked, y)
        self._fingerprint = self._print()
        inputs = self._cast(checked)
        self._probe(inputs[:3])
        self.mean_ = self._activations(inputs).mean(axis=0)

    def transform(self, X):
        return self._explain(self._checked(X))

    def _checked(self, X):
        check_is_fitted(self)
        inputs = self._cast(validate_X(self, X, reset=False))
        if self._print() != self._fingerprint:
            warn("the network's weights changed since fit; fit again", ChangedModelWarning)
        return inputs

    def _explain(self, inputs):
        return (self._activations(inputs) - self.mean_) * self.scale_ + self.offset_

    def _cast(self, X):
        if not isinstance(self.estimator_, nn.Module):
            return X
        return X.astype(numpy_dtype_of(next(self.estimator_.parameters()).dtype))

    def _print(self):
        if not isinstance(self.estimator_, nn.Module):
            return 0
        state = self.estimator_.state_dict()
        return [zlib.crc32(v.detach().numpy().tobytes()) for v in state.values()]

    def _network(self):
        """Return a copy in eval mode, so that the network itself is never touched."""
        return copy.deepcopy(self.estimator_).eval().requires_grad_(False)

    def _activations(self, inputs):
        if not isinstance(self.estimator_, nn.Module):
            return (inputs - self.estimator_.mean_) @ self.estimator_.components_.T
        network, parts = self._network(), []
        for start in range(0, len(inputs), self.batch_size):
            parts.append(self._run(network, inputs[start : start + self.batch_size]))
        z = np.concatenate(parts)
        bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
        if len(bad):
            raise ValueError(f"the network's output is not finite for sample {bad[0]}")
        return z

    def _run(self, network, batch):
        with torch.no_grad():
            return network(torch.from_numpy(batch.copy())).numpy().copy()

    def _probe(self, few):
        with torch.random.fork_rng(devices=[]):
            twice = [self._activations(few) for _ in range(2)]
            single = np.concatenate([self._activations(few[i : i + 1]) for i in range(len(few))])
        if not all(np.allclose(z, twice[0], rtol=1e-4, atol=1e-6) for z in (twice[1], single)):
            warn("the network's output is no function of one sample", RandomModelWarning)

    def set_params(self, **params):
        nested = [name for name in params if name.startswith("estimator__")]
        if nested and is_fitted(self.estimator):
            raise ValueError(f"{nested[0]}: the explained estimator is fitted")
        return super().set_params(**params)

    def __sklearn_clone__(self):
        params = {k: clone(v, safe=False) for k, v in self.get_params(deep=False).items()}
        return type(self)(**params | {"estimator": shared_or_cloned(self.estimator)})


# -- one wrong explainer a check, named like the check


class Session(Good):
    """Switches the user's own network over, and back where all went well."""

    def _network(self):
        return self.estimator_

    def _activations(self, inputs):
        if not isinstance(self.estimator_, nn.Module):
            return super()._activations(inputs)
        torch.manual_seed(0)
        modes = [(m, m.training) for m in self.estimator_.modules()]
        flags = [(p, p.requires_grad) for p in self.estimator_.parameters()]
        self.estimator_.eval().requires_grad_(False)
        z = super()._activations(inputs)
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        return z


class Frozen(Session):
    def _activations(self, inputs):
        self.estimator_.eval()
        return super()._activations(inputs)


class Named(Good):
    def __init__(self, estimator, *, score=None, random_state=None):
        super().__init__(estimator, random_state=random_state)

    @property
    def score(self):
        return 1.0

    @score.setter
    def score(self, value):
        pass


class ReturnsAnother(Good):
    def fit(self, X, y=None):
        return copy.copy(super().fit(X, y))


class ChangesParameters(Good):
    def _learn(self, X, y):
        self.scale = float(self.scale) + 1.0
        super()._learn(X, y)


class ClonesReset(Good):
    def __sklearn_clone__(self):
        fresh = super().__sklearn_clone__()
        fresh.estimator = copy.deepcopy(self.estimator)
        with torch.no_grad():
            for parameter in fresh.estimator.parameters():
                parameter.mul_(0.5)
        return fresh


class ReadsParametersLate(Good):
    def _explain(self, inputs):
        return super()._explain(inputs) / self.scale


class SetsNested(Good):
    set_params = BaseEstimator.set_params


class WrongShapeRecorded(Good):
    def _learn(self, X, y):
        super()._learn(X, y)
        self.input_shape_ = (len(X), *self.input_shape_)

    def _checked(self, X):
        return self._cast(np.asarray(X))


class UnfittedIsAttributeError(Good):
    def _checked(self, X):
        self.mean_  # noqa: B018
        return super()._checked(X)


class NotLooking(Good):
    def _checked(self, X):
        check_is_fitted(self)
        return self._cast(np.nan_to_num(np.asarray(X, np.float32), posinf=0.0))


class Crops(Good):
    def _checked(self, X):
        return super()._checked(np.resize(X, (len(X), *self.input_shape_)))


class TakesNothing(Good):
    def _checked(self, X):
        return super()._checked(X if len(X) else np.zeros((1, *self.input_shape_)))


class MindsTheType(Good):
    def transform(self, X):
        return super().transform(X) + float(isinstance(X, list))


class OfTheBatch(Good):
    def _explain(self, inputs):
        z = super()._explain(inputs)
        return z - z.mean(axis=0)


class OfTheOrder(Good):
    def _explain(self, inputs):
        return super()._explain(inputs) + np.arange(len(inputs))[:, None]


class LosesTheLastBatch(Good):
    def _explain(self, inputs):
        z = super()._explain(inputs)
        z[len(z) - len(z) % self.batch_size :] = 0
        return z


class Draws(Good):
    def _explain(self, inputs):
        return super()._explain(inputs) + np.random.default_rng().normal(size=(len(inputs), 1))


class LosesItsMean(Good):
    def __getstate__(self):
        return super().__getstate__() | {"mean_": 0.0}


class DrawsGlobally(Good):
    def _learn(self, X, y):
        np.random.rand()
        super()._learn(X, y)


class KeepsX(Good):
    def _learn(self, X, y):
        super()._learn(X, y)
        self._X = X

    def _explain(self, inputs):
        return super()._explain(inputs) + self._X.mean()


class KeepsOffset(Good):
    def _learn(self, X, y):
        super()._learn(X, y)
        self.offset_ = self.offset


class Remembers(Good):
    def _learn(self, X, y):
        again = hasattr(self, "mean_")
        super()._learn(X, y)
        self.mean_ = self.mean_ + again

    def fit(self, X, y=None):
        self._learn(X, y)
        return self


class LearnsInPlace(Good):
    def fit(self, X, y=None):
        self._learn(X, y)
        return self


class Swallows(Good):
    def fit(self, X, y=None):
        try:
            return super().fit(X, y)
        except KeyboardInterrupt:
            return self


class KeepsNames(Good):
    def fit(self, X, y=None):
        names = getattr(self, "feature_names_in_", None)
        super().fit(X, y)
        if names is not None:
            self.feature_names_in_ = names
        return self


class Counts(Good):
    def _explain(self, inputs):
        self.n_calls_ = getattr(self, "n_calls_", 0) + 1
        return super()._explain(inputs)


class SaysOtherwiseTwice(Good):
    def score_samples(self, X):
        return np.random.default_rng().normal(size=len(X))


class PicklesX(Good):
    def _learn(self, X, y):
        super()._learn(X, y)
        self._X = np.array(X)


class HoldsALambda(Good):
    def _learn(self, X, y):
        super()._learn(X, y)
        self._function = lambda: None


class WarnsHere(Good):
    def _cast(self, X):
        if np.abs(X).max() > 1e6:
            warnings.warn("loses digits", DataConversionWarning, stacklevel=1)
        return X.astype(np.float32)


class AsksForTags(Good):
    def _checked(self, X):
        get_tags(self.estimator_)
        return super()._checked(X)


class DoesNotNotice(Good):
    def _print(self):
        return 0


class CountsVersions(Good):
    """Version counters miss what is written to ``.data``."""

    def _print(self):
        tensors = [*self.estimator_.parameters(), *self.estimator_.buffers()]
        return [t._version for t in tensors]


class ClaimsToFollow(Good):
    _keeps_results = False

    def _print(self):
        return 0


class NotFiniteIsFine(Good):
    def _activations(self, inputs):
        network = self._network()
        return np.concatenate([self._run(network, inputs[i : i + 1]) for i in range(len(inputs))])


class NamesNoSample(Good):
    def _activations(self, inputs):
        try:
            return super()._activations(inputs)
        except ValueError:
            raise ValueError("the network's output is not finite for some sample") from None


class DoesNotProbe(Good):
    def _probe(self, few):
        pass


LEAKED = []


class Leaks(Good):
    def _run(self, network, batch):
        LEAKED.append(network(torch.from_numpy(batch)))
        return super()._run(network, batch)


class MakesCycles(Good):
    def _network(self):
        network = super()._network()
        network.me = [network]
        return network


def net():
    return make_net("mlp"), make_X("mlp")


def pca():
    return PCA(2), make_X("mlp").astype(np.float64)


CASES = {"mlp": net, "pca": pca, "conv1d": lambda: (make_net("conv1d"), make_X("conv1d"))}


@parametrize_nd_checks({k: lambda f=f: (Good(f()[0]), f()[1]) for k, f in CASES.items()})
def test_a_good_explainer_passes(check):
    check()


WRONG = [
    (checks.check_parameter_names, Named, net),
    (checks.check_fit_returns_self, ReturnsAnother, net),
    (checks.check_fit_returns_self, ChangesParameters, net),
    (checks.check_clone_keeps_model, ClonesReset, net),
    (checks.check_parameters_count_at_fit, ReadsParametersLate, net),
    (checks.check_fitted_estimator_keeps_parameters, SetsNested, pca),
    (checks.check_shapes_recorded, WrongShapeRecorded, net),
    (checks.check_not_fitted, UnfittedIsAttributeError, net),
    (checks.check_not_finite, NotLooking, net),
    (checks.check_wrong_shape, Crops, net),
    (checks.check_empty, TakesNothing, net),
    (checks.check_input_kinds, MindsTheType, net),
    (checks.check_batch_equals_samples, OfTheBatch, net),
    (checks.check_order_and_subset, OfTheOrder, net),
    (checks.check_batch_size, LosesTheLastBatch, net),
    (checks.check_repeatable, Draws, net),
    (checks.check_pickle, LosesItsMean, net),
    (checks.check_model_unchanged, Frozen, net),
    (checks.check_generators_untouched, DrawsGlobally, net),
    (checks.check_keeps_nothing_of_X, KeepsX, net),
    (checks.check_keeps_nothing_of_X, KeepsOffset, net),
    (checks.check_refit, Remembers, net),
    (checks.check_failed_refit, LearnsInPlace, net),
    (checks.check_failed_refit, Remembers, pca),
    (checks.check_interrupted_fit, Swallows, net),
    (checks.check_interrupted_fit, LearnsInPlace, net),
    (checks.check_names_reset, KeepsNames, net),
    (checks.check_methods_change_nothing, Counts, net),
    (checks.check_methods_change_nothing, SaysOtherwiseTwice, net),
    (checks.check_pickle_size, PicklesX, net),
    (checks.check_skops, HoldsALambda, pca),
    (checks.check_warnings_name_the_caller, WarnsHere, net),
    (checks.check_tags_not_asked, AsksForTags, pca),
    (checks.check_model_unchanged_during_call, Session, net),
    (checks.check_changed_weights, DoesNotNotice, net),
    (checks.check_changed_weights, CountsVersions, net),
    (checks.check_changed_weights, ClaimsToFollow, net),
    (checks.check_network_not_finite, NotFiniteIsFine, net),
    (checks.check_network_not_finite, NamesNoSample, net),
    (checks.check_function_of_one_sample, DoesNotProbe, net),
    (checks.check_memory, Leaks, net),
    (checks.check_memory, MakesCycles, net),
    (checks.check_training_in_a_thread, Session, net),
    (checks.check_interrupts, Session, net),
]


@pytest.mark.parametrize(
    ("check", "explainer", "case"), [pytest.param(*w, id=w[1].__name__) for w in WRONG]
)
def test_a_wrong_explainer_is_caught(check, explainer, case):
    model, X = case()
    offset = {"offset": np.float32([1, 2, 3, 4])} if explainer is KeepsOffset else {}
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        check(explainer(model, **offset), X, None)
    assert not isinstance(caught.value, (NameError, TypeError)), caught.value


def test_every_check_has_a_wrong_explainer():
    every = {name for name in checks.__all__ if name.startswith("check_")}
    assert {check.__name__ for check, _, _ in WRONG} == every


def test_topics():
    model, X = net()
    every = [check.func.__name__ for check in nd_checks(Good(model), X)]
    parts = [c.func.__name__ for t in TOPICS for c in nd_checks(Good(model), X, topics=[t])]
    assert every == parts and len(set(every)) == len(every)
    with pytest.raises(ValueError, match=r"topics has \['memory'\]"):
        list(nd_checks(Good(model), X, topics=["memory"]))
    with pytest.raises(ValueError, match="at least 7"):
        list(nd_checks(Good(model), X[:6]))


def _runs(explainer, expected):
    mark = parametrize_nd_checks(
        {"net": lambda: (explainer(make_net("mlp")), make_X("mlp"))}, lambda _: expected
    )
    return {param.id: param.values[0] for param in mark.args[1]}


def test_expected_failures():
    reason = {"check_generators_untouched": "to be mended"}
    run = _runs(DrawsGlobally, reason)["net-check_generators_untouched"]
    with pytest.raises(pytest.xfail.Exception, match="to be mended"):
        run()
    run = _runs(Good, reason)["net-check_generators_untouched"]
    with pytest.raises(pytest.fail.Exception, match="expected to fail: to be mended"):
        run()
    run = _runs(DrawsGlobally, {})["net-check_generators_untouched"]
    with pytest.raises(AssertionError, match="global random generator"):
        run()
