"""Pieces of users' own: used where they are registered, and found out where they are wrong."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from sklexplain import LabelFreeAttributor, SRAEExplainer, TracInImportance
from sklexplain.exceptions import ConvergenceWarning, WrongGradientRuleWarning
from sklexplain.explaining import METHODS, PERTURBATION_METHODS
from sklexplain.extending import (
    Method,
    register_converter,
    register_gradient_rule,
    register_method,
)

X = np.random.RandomState(0).exponential(size=(30, 3))


class Root(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.sqrt(np.asarray(X) + 1)


class TorchRoot(nn.Module):
    def __init__(self, shift=1.0):
        super().__init__()
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, x):
        return torch.sqrt(x + self.shift)


def rooted():
    return make_pipeline(Root(), LinearRegression()).fit(X, X @ [1.0, -2.0, 0.5])


def explain(model, method="integrated_gradients", **params):
    return LabelFreeAttributor(model, method=method, random_state=0, **params).fit(X)


# -- converters ------------------------------------------------------------------------------------


def test_a_converter_lets_gradients_through():
    model = rooted()
    with pytest.raises(TypeError, match="needs gradients, but Root has no torch form"):
        explain(model)
    with register_converter(Root, lambda step: TorchRoot()):
        maps = explain(model, "saliency").transform(X[:5])
    slopes = model[-1].coef_ / (2 * np.sqrt(X[:5] + 1))
    np.testing.assert_allclose(maps, slopes * model.predict(X[:5])[:, None], rtol=1e-4)
    with pytest.raises(TypeError, match="no torch form"):
        explain(model)


@pytest.mark.parametrize(
    "module, text",
    [
        (TorchRoot(2.0), "torch form of transform of Root differs from it by"),
        (nn.Linear(3, 2), r"returns shape \(3, 2\) where the estimator returns \(3, 3\)"),
    ],
    ids=["values", "shape"],
)
def test_a_wrong_converter_is_found_out(module, text):
    with register_converter(Root, lambda step: module):
        with pytest.raises(ValueError, match=text):
            explain(Root().fit(X))


def test_a_converter_may_decline():
    with register_converter(Root, lambda step: None):
        with pytest.raises(TypeError, match="no torch form"):
            explain(rooted())


def test_other_methods_than_transform():
    class Doubled(LinearRegression):
        def predict(self, X):
            return 2 * super().predict(X)

    def converter(step):
        module = nn.Linear(3, 1).double()
        module.weight.data[:] = torch.as_tensor(2 * step.coef_)
        module.bias.data[:] = 2 * step.intercept_
        return module

    model = Doubled().fit(X, X @ [1.0, -2.0, 0.5])
    with register_converter(Doubled, converter, "predict"):
        maps = explain(model, baseline="zeros").transform(X[:5])
    found, at_baseline = model.predict(X[:5]), model.predict(np.zeros((1, 3)))
    np.testing.assert_allclose(maps.sum(axis=1), found * (found - at_baseline), rtol=1e-4)


def test_what_is_no_converter():
    with pytest.raises(TypeError, match="must be a class of estimators"):
        register_converter(Root(), TorchRoot)
    with pytest.raises(TypeError, match="must be callable"):
        register_converter(Root, None)
    with pytest.raises(TypeError, match="Root has no such method"):
        register_converter(Root, lambda step: TorchRoot(), "predict")
    with pytest.raises(ValueError, match="Did you mean 'transform'"):
        register_converter(Root, lambda step: TorchRoot(), "transforms")
    with register_converter(Root, lambda step: np.sqrt):
        with pytest.raises(TypeError, match="converter of Root returned ufunc, not a torch module"):
            explain(rooted())


# -- gradient rules --------------------------------------------------------------------------------


class Gains(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(1, 2, 3))

    def forward(self, x):
        return x * self.gain


def rule(layer, x, grad):
    calls.append(len(x))
    return {"gain": (x * grad).reshape(len(x), -1, 3).sum(dim=1)}


def wrong_rule(layer, x, grad):
    return {"gain": grad}


calls = []


def influence(net, X=X):
    X = X.astype(np.float32)
    return TracInImportance(net, parameters="all").fit(X).transform(X[:4])


def net(layer=Gains):
    torch.manual_seed(0)
    return nn.Sequential(layer(), nn.Linear(3, 3))


@pytest.mark.parametrize("shape", [(30, 3), (10, 4, 3)], ids=["rows", "series"])
def test_a_gradient_rule_is_used(shape):
    samples = np.resize(X, shape)
    expected = influence(net(), samples)
    calls.clear()
    with register_gradient_rule(Gains, rule):
        np.testing.assert_allclose(influence(net(), samples), expected, rtol=1e-4, atol=1e-6)
    assert max(calls) == len(samples)


@pytest.mark.parametrize("rule", [wrong_rule, lambda layer, x, grad: {"gain": x[:1]}])
def test_a_wrong_gradient_rule_is_found_out(rule):
    expected = influence(net())
    with register_gradient_rule(Gains, rule):
        with pytest.warns(WrongGradientRuleWarning, match="Gains '0' fails, or differs .* 0.gain"):
            found = influence(net())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_rule_of_a_subclass_comes_first():
    class Negated(nn.Linear):
        def forward(self, x):
            return -super().forward(x)

    def negated_rule(layer, x, grad):
        calls.append(len(x))
        return {"weight": -grad.unsqueeze(2) * x.unsqueeze(1), "bias": -grad}

    expected = influence(net(lambda: Negated(3, 3)))  # that of nn.Linear is not used
    calls.clear()
    with register_gradient_rule(Negated, negated_rule):
        found = influence(net(lambda: Negated(3, 3)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert calls


def test_a_fitted_explainer_needs_its_rule():
    with register_gradient_rule(Gains, rule):
        explainer = TracInImportance(net(), parameters="all").fit(X.astype(np.float32))
        explainer.transform(X[:2].astype(np.float32))
    with pytest.raises(ValueError, match="rule 'rule', which is not registered here"):
        explainer.transform(X[:2].astype(np.float32))


def test_what_is_no_rule():
    with pytest.raises(TypeError, match="must be a class of layers"):
        register_gradient_rule(PCA, rule)
    with pytest.raises(TypeError, match="must be callable"):
        register_gradient_rule(Gains, None)


# -- methods ---------------------------------------------------------------------------------------


def half(share=1.0, needs_gradients=True):
    """Gradient at the sample times its difference from the baseline, or one number a feature."""

    def build(params, setup, rng):
        def attribute(encode, x, references, cotangents, block_rows, **others):
            if not needs_gradients:
                return torch.ones(len(x), cotangents.shape[1], setup.n_players, dtype=x.dtype)
            x = x.clone().requires_grad_()
            with torch.enable_grad():
                values = (encode(x).unsqueeze(1) * cotangents).sum(dim=(0, 2)).unbind()
            slopes = [torch.autograd.grad(v, x, retain_graph=True)[0] for v in values]
            return torch.stack(slopes, dim=1) * (x - references.mean(dim=1)).unsqueeze(1) * share

        return attribute

    return build


@pytest.mark.filterwarnings("ignore:The validation loss still improved")
def test_a_method_is_used_by_all_who_take_one():
    model = PCA(2).fit(X)
    expected = explain(model, "input_x_gradient").transform(X[:4])
    with register_method(Method("own", "mine", half())):
        assert "own" in METHODS and "own" not in PERTURBATION_METHODS
        explainer = explain(model, "own")
        np.testing.assert_allclose(explainer.transform(X[:4]), expected, rtol=1e-6)
        concepts = SRAEExplainer(model, n_concepts=2, max_epochs=2, random_state=0).fit(X)
        assert concepts.concept_attributions(X[:2], method="own").shape == (2, 2, 3)
    with pytest.raises(ValueError, match="'method' parameter .* must be a str among"):
        explain(model, "own")
    with pytest.raises(KeyError, match="'own'; one of your own has to be registered"):
        explainer.transform(X[:4])


def test_a_complete_method_is_held_to_its_sum():
    record = Method("own", "mine", half(0.5), is_complete=True, shortfall="divide by its share")
    with register_method(record):
        with pytest.warns(ConvergenceWarning, match="divide by its share"):
            explain(PCA(2).fit(X), "own").transform(X[:4])


def test_a_method_without_gradients():
    with register_method(Method("own", "mine", half(needs_gradients=False), needs_gradients=False)):
        maps = explain(PCA(2).fit(X), "own", groups=[0, 0, 1]).transform(X[:4])
    np.testing.assert_array_equal(maps, np.ones((4, 2)))


@pytest.mark.parametrize(
    "record, error, text",
    [
        ("saliency", TypeError, "must be a Method"),
        (Method("my own", "", half()), ValueError, "name as in Python"),
        (Method("own", "", None), TypeError, "build=None must be callable"),
        (Method("own", "", half(), samples=True), ValueError, "needs a parameter 'n_samples'"),
        (Method("own", "", half(), refined_by="n_steps"), ValueError, "is not in params"),
        (Method("own", "", half(), is_complete=True), ValueError, "needs a shortfall"),
        (METHODS["lime"], ValueError, None),
    ],
)
def test_what_is_no_method(record, error, text):
    if text is None:
        record, text = Method("lime", "", half()), "method 'lime' is registered already"
    with pytest.raises(error, match=text):
        register_method(record)


# -- all three -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "register",
    [
        lambda: register_converter(Root, lambda step: TorchRoot()),
        lambda: register_gradient_rule(Gains, lambda layer, x, grad: {}),
        lambda: register_method(Method("own", "mine", half())),
    ],
    ids=["converter", "gradient rule", "method"],
)
def test_nothing_is_registered_twice(register):
    first = register()
    try:
        with pytest.raises(ValueError, match="registered already; .* call remove()"):
            register()
    finally:
        first.remove()
    first.remove()  # does nothing
    with register():
        first.remove()  # of what another call has registered
        with pytest.raises(ValueError, match="registered already"):
            register()


def test_those_of_the_library_stay():
    with pytest.raises(ValueError, match="converter of PCA.transform is registered already"):
        register_converter(PCA, lambda step: TorchRoot())
    with pytest.raises(ValueError, match="rule of Linear is registered already"):
        register_gradient_rule(nn.Linear, rule)
