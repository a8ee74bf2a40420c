"""Skorch nets with code of their own, several inputs, or weights that were loaded."""

import copy
import re
import types

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNet, NeuralNetClassifier
from skorch.dataset import Dataset
from skorch.helper import SliceDict
from torch import nn

from sklexplain import (
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    InfluenceImportance,
    LabelFreeAttributor,
    NoiseScorer,
    SimplExImportance,
    SRAEExplainer,
    TracInImportance,
    VarianceScorer,
)
from sklexplain.representation import Representation
from sklexplain.representation._skorch import changes_samples

EVERY = [
    *(ClaDecExplainer, DKNNImportance, EmbeddingAttributor, InfluenceImportance),
    *(LabelFreeAttributor, NoiseScorer, SimplExImportance, SRAEExplainer, TracInImportance),
    VarianceScorer,
]
RNG = np.random.default_rng(0)
NUM = RNG.normal(size=(40, 3)).astype(np.float32)
CAT = RNG.integers(0, 5, 40)
X = np.column_stack([NUM, CAT]).astype(np.float32)
Y = (NUM[:, 0] > 0).astype(np.int64)
SETTINGS = {"max_epochs": 2, "verbose": 0, "train_split": None, "lr": 0.1}


class Two(nn.Module):
    """Takes numbers and categories."""

    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(5, 3), nn.Linear(6, 2)

    def forward(self, num, cat):
        return self.out(torch.cat([num, self.embedding(cat)], dim=1)).softmax(dim=1)


class One(nn.Module):
    def __init__(self, softmax=True):
        super().__init__()
        self.encoder, self.out, self.softmax = nn.Linear(4, 3), nn.Linear(3, 2), softmax

    def forward(self, x):
        z = self.out(self.encoder(x).tanh())
        return z.softmax(dim=1) if self.softmax else z


def trained(kind=NeuralNetClassifier, module=One, X=X, **params):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(module, **SETTINGS, **params).fit(X, Y)


def cut(X):
    """Make what `Two` takes of one array."""
    return {"num": X[:, :3].astype("float32"), "cat": X[:, 3].astype("int64")}


# -- several inputs


TOGETHER = [
    {"num": NUM, "cat": CAT},
    SliceDict(num=NUM, cat=CAT),
    (NUM, CAT),
    [torch.as_tensor(NUM), torch.as_tensor(CAT)],
]


@pytest.mark.parametrize("explainer", EVERY)
@pytest.mark.parametrize("several", TOGETHER, ids=["dict", "SliceDict", "tuple", "list"])
def test_several_arrays_are_refused_with_the_step_that_makes_them(explainer, several):
    net = trained(module=Two, X={"num": NUM, "cat": CAT})
    with pytest.raises(TypeError, match="of several arrays") as caught:
        explainer(net).fit(several, Y)
    message = str(caught.value)
    assert len(message) < 600
    step = re.search(r"FunctionTransformer\((lambda X: .*)\), net\)", message)[1]
    made = eval(step)(X)  # the very step, ready to be copied
    made = list(made.values()) if isinstance(several, dict) else made
    np.testing.assert_array_equal(made[0], NUM)
    np.testing.assert_array_equal(made[1], CAT)


def test_images_beside_a_table():
    images = RNG.normal(size=(40, 2, 5)).astype(np.float32)
    with pytest.raises(TypeError) as caught:
        DKNNImportance(One()).fit({"x": NUM, "image": images})
    step = re.search(r"FunctionTransformer\((lambda X: .*)\), net\)", str(caught.value))[1]
    made = eval(step)(np.column_stack([NUM, images.reshape(40, -1)]))
    np.testing.assert_array_equal(made["image"], images)


@pytest.mark.parametrize("explainer", EVERY)
def test_networks_of_several_inputs_are_refused_with_the_way_out(explainer):
    net = trained(module=Two, X={"num": NUM, "cat": CAT})
    fix = r"Two|NeuralNetClassifier takes several inputs \(num, cat\), and X is one array"
    unfitted = NeuralNetClassifier(Two, **SETTINGS)
    for estimator in (net, unfitted, make_pipeline(net), FrozenEstimator(net), net.module_):
        for frame in (X, pd.DataFrame(X, columns=list("abcd"))):
            with pytest.raises(TypeError, match=fix) as caught:
                explainer(estimator).fit(frame, Y)
            way = "def forward" if isinstance(estimator, nn.Module) else "make_pipeline(Function"
            assert way in str(caught.value)
    search = GridSearchCV(unfitted, {"lr": [0.1]})
    with pytest.raises(TypeError, match="takes several inputs"):
        explainer(search).fit(X, Y)


@pytest.mark.parametrize("fitted", ["parts", "whole", "not"])
def test_a_pipeline_that_makes_several_inputs_is_a_black_box(fitted):
    net = NeuralNetClassifier(Two, **SETTINGS)
    if fitted == "parts":
        net.fit(cut(X), Y)
    pipeline = make_pipeline(FunctionTransformer(cut), net)
    if fitted == "whole":
        pipeline.fit(X, Y)
    shapley = LabelFreeAttributor(pipeline, method="shapley_sampling", random_state=0).fit(X, Y)
    model = shapley.estimator_
    p, p0 = model.predict_proba(X[:5]), model.predict_proba(X.mean(axis=0, keepdims=True))
    expected = (p * (p - p0)).sum(axis=1)
    np.testing.assert_allclose(shapley.transform(X[:5]).sum(axis=1), expected, rtol=1e-4)
    for method in ("occlusion", "feature_ablation", "kernel_shap", "lime"):
        explainer = LabelFreeAttributor(model, method=method, random_state=0)
        assert np.isfinite(explainer.fit(X).transform(X[:5])).all()
    dknn = DKNNImportance(model, n_neighbors=3).fit(X)
    distances = np.square(model.predict_proba(X)[None] - p[:, None]).sum(axis=2)
    nearest = np.sort(np.take_along_axis(distances, dknn.top_examples(X[:5], 3)[1], axis=1))
    np.testing.assert_allclose(nearest, np.sort(distances)[:, :3], atol=1e-6)
    weights = SimplExImportance(model).fit(X).transform(X[:5])
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    decoder = ClaDecExplainer(model, reference=None, max_epochs=2, validation_split=None)
    assert decoder.fit(X, Y).transform(X[:5]).shape == (5, 4)
    with pytest.raises(TypeError, match="needs gradients, but FunctionTransformer"):
        LabelFreeAttributor(model).fit(X)
    for explainer in (TracInImportance, VarianceScorer):
        with pytest.raises(TypeError, match="FunctionTransformer has no torch form"):
            explainer(model).fit(X, Y)
    with pytest.raises(ValueError, match="name a layer: 'neuralnetclassifier'"):
        SRAEExplainer(model).fit(X, Y)


def test_modules_with_optional_arguments_take_one_input():
    class Optional(One):
        def forward(self, x, mask=None, *rest, scale=1.0, **more):
            return super().forward(x) * scale

    assert DKNNImportance(Optional()).fit(X).transform(X[:2]).shape == (2, 40)


def test_a_step_that_makes_several_inputs_of_a_frame_gets_one():
    def cut_frame(frame):
        numbers = frame[["a", "b", "c"]].to_numpy("float32")
        return {"num": numbers, "cat": frame["site"].to_numpy("int64")}

    frame = pd.DataFrame({"a": NUM[:, 0], "b": NUM[:, 1], "c": NUM[:, 2], "site": CAT})
    net = trained(module=Two, X={"num": NUM, "cat": CAT})
    pipeline = make_pipeline(FunctionTransformer(cut_frame), net)
    shapley = LabelFreeAttributor(
        pipeline, method="shapley_sampling", baseline="background", random_state=0
    )
    assert shapley.fit(frame).transform(frame[:5]).shape == (5, 4)
    expected = DKNNImportance(make_pipeline(FunctionTransformer(cut), net)).fit(X).transform(X[:5])
    found = DKNNImportance(pipeline).fit(frame).transform(frame[:5])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert SimplExImportance(pipeline).fit(frame).transform(frame[:5]).shape == (5, 40)
    decoder = ClaDecExplainer(pipeline, reference=None, max_epochs=2, validation_split=None)
    assert len(decoder.fit(frame, Y).transform(frame[:5])) == 5


# -- code of one's own


class Doubling(NeuralNetClassifier):
    def infer(self, x, **params):
        return super().infer(2 * x, **params)


class Splitting(NeuralNetClassifier):
    def infer(self, x, **params):
        return self.module_(x[:, :3], x[:, 3].long())


def test_layers_of_a_net_with_its_own_infer_are_those_of_its_passes():
    net = trained(Doubling)
    representation = Representation(net, 4, X=X, layer="encoder")
    assert representation.viewed
    z = net.module_.encoder(torch.as_tensor(2 * X)).detach()
    np.testing.assert_allclose(representation.activations(X, 16), z, rtol=1e-6)
    maps = EmbeddingAttributor(net, layer="encoder", output="out").fit(X).transform(X[:2])
    doubled = EmbeddingAttributor(net.module_, layer="encoder", output="out").fit(2 * X)
    np.testing.assert_allclose(maps, doubled.transform(2 * X[:2]), rtol=1e-5)
    splitting = trained(Splitting, Two)
    representation = Representation(splitting, 4, X=X, layer="out")
    log = representation.activations(X, 16)
    expected = splitting.module_(torch.as_tensor(NUM), torch.as_tensor(CAT)).detach()
    np.testing.assert_allclose(torch.as_tensor(log).softmax(dim=1), expected, rtol=1e-5)


def test_what_a_net_predicts_by_its_own_code_is_explained():
    net = trained()
    doubled = trained(Doubling)
    for name in ("infer", "evaluation_step", "forward_iter"):
        own = copy.deepcopy(net)
        if name == "infer":
            setattr(own, name, lambda x, net=own: net.module_(2 * x))
        elif name == "evaluation_step":

            def step(self, batch, training=False):
                return NeuralNetClassifier.evaluation_step(self, (2 * batch[0], batch[1]), training)

            setattr(own, name, types.MethodType(step, own))
        else:

            def forward_iter(self, X, **params):
                return NeuralNetClassifier.forward_iter(self, 2 * X, **params)

            setattr(own, name, types.MethodType(forward_iter, own))
        np.testing.assert_allclose(own.predict_proba(X), net.predict_proba(2 * X), rtol=1e-6)
        representation = Representation(own, 4, X=X)
        assert representation.no_torch_form.startswith(f"NeuralNetClassifier.{name} (its own code")
        z = representation.activations(X, 16)
        np.testing.assert_allclose(z, own.predict_proba(X), rtol=1e-6)
    z = Representation(doubled, 4, X=X).activations(X, 16)
    np.testing.assert_allclose(z, doubled.predict_proba(X), rtol=1e-6)


class Scaled(Dataset):
    def transform(self, X, y):
        X, y = super().transform(X, y)
        return X / 10, y


class Cut(Dataset):
    def transform(self, X, y):
        X, y = super().transform(X, y)
        return {"num": X[:3], "cat": X[3].astype("int64")}, y


class Labelled(NeuralNetClassifier):
    def get_dataset(self, X, y=None):
        return Scaled(X, y)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: trained(dataset=Scaled), "dataset"),
        (lambda: trained(module=Two, dataset=Cut), "dataset"),
        (lambda: trained(Labelled), "get_dataset"),
    ],
)
def test_a_net_whose_data_code_changes_X_is_a_black_box(make, name):
    net = make()
    state = torch.get_rng_state()
    assert changes_samples(net, 4) == name
    assert torch.equal(torch.get_rng_state(), state)
    representation = Representation(net, 4, X=X)
    reason = f"{type(net).__name__}.{name} (its own code, which changes X)"
    assert representation.no_torch_form == reason
    z = representation.activations(X, 16)
    np.testing.assert_allclose(z, net.predict_proba(X), rtol=1e-6)
    with pytest.raises(ValueError, match="layer='out' needs a network"):
        DKNNImportance(net, layer="out").fit(X)


def test_a_net_whose_data_code_leaves_X_as_it_is_has_a_torch_form():
    class Same(NeuralNetClassifier):
        def get_iterator(self, dataset, training=False):
            return super().get_iterator(dataset, training)

    for net in (trained(dataset=type("Own", (Dataset,), {})), trained(Same)):
        assert Representation(net, 4, X=X).differentiable


def test_black_boxes_around_nets_leave_the_global_generator_alone():
    net = trained(module=Two, X={"num": NUM, "cat": CAT})
    pipeline = make_pipeline(FunctionTransformer(cut), net)
    state = torch.get_rng_state()
    DKNNImportance(pipeline).fit(X).transform(X[:3])
    DKNNImportance(trained(Doubling)).fit(X).transform(X[:3])
    assert torch.equal(torch.get_rng_state(), state)


# -- nets in other states


def test_weights_that_were_loaded(tmp_path):
    net = trained()
    files = {"f_params": tmp_path / "params.pt", "f_history": tmp_path / "history.json"}
    net.save_params(**files)
    expected = DKNNImportance(net).fit(X).transform(X[:3])

    def fresh(**files):
        other = NeuralNetClassifier(One, **SETTINGS).initialize()
        other.load_params(**files)
        return other

    weights = fresh(f_params=files["f_params"])
    for estimator in (weights, clone(DKNNImportance(weights)).estimator):
        with pytest.raises(NotFittedError, match=r"never trained.*or pass FrozenEstimator\(net\)"):
            DKNNImportance(estimator).fit(X)
    frozen = DKNNImportance(FrozenEstimator(weights))
    for explainer in (frozen, clone(frozen), DKNNImportance(fresh(**files))):
        np.testing.assert_array_equal(explainer.fit(X).transform(X[:3]), expected)
    assert not weights.history


def test_trimmed_nets_are_trained():
    net = trained()
    expected = LabelFreeAttributor(net, random_state=0).fit(X).transform(X[:3])
    net.trim_for_prediction()
    found = LabelFreeAttributor(net, random_state=0).fit(X).transform(X[:3])
    np.testing.assert_array_equal(found, expected)


def test_half_initialised_nets_are_fitted():
    net = NeuralNet(One, criterion=nn.CrossEntropyLoss, **SETTINGS)
    net._initialize_module()
    assert DKNNImportance(net).fit(X, Y).transform(X[:2]).shape == (2, 40)
    assert not net.initialized_
