"""Torch's default dtype and default device change no result."""

import pickle

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sklexplain import (
    AnomalyAttributor,
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    InfluenceImportance,
    LabelFreeAttributor,
    LatentSurrogate,
    NoiseScorer,
    RelevanceMasker,
    SimplExImportance,
    SparseDictionary,
    SRAEExplainer,
    TracInImportance,
    VarianceScorer,
)
from sklexplain.metrics import evaluation_accuracy
from sklexplain.nets import Autoencoder, ContrastiveEncoder, VariationalAutoencoder
from sklexplain.scores import ScoreConstraint

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
SERIES = np.random.default_rng(1).normal(size=(30, 2, 12)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int64)
QUICK = {"max_epochs": 2, "validation_split": None, "random_state": 0}
BRIEF = {"max_epochs": 2, "random_state": 0}


@pytest.fixture(params=["float64", "meta"])
def others(request):
    """Set another default; tensors on the device "meta" have no numbers, and mix with none."""

    def change():
        if request.param == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(torch.float64)

    yield change
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


def same(run, change):
    expected = run()
    change()
    found = run()
    dense = [v.toarray() if hasattr(v, "toarray") else np.asarray(v) for v in (found, expected)]
    assert dense[0].dtype == dense[1].dtype
    np.testing.assert_array_equal(*dense)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
            self.decoder = nn.Linear(3, 4)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def mse(output, x):
    return (output - x).square().mean(dim=1)


EXPLAINERS = {
    "gradients": lambda net: LabelFreeAttributor(net),
    "deep_lift": lambda net: LabelFreeAttributor(net, method="deep_lift"),
    "shapley": lambda net: LabelFreeAttributor(net, method="shapley_sampling", random_state=0),
    "gradient_shap": lambda net: LabelFreeAttributor(net, method="gradient_shap", random_state=0),
    "anomaly": lambda net: AnomalyAttributor(net),
    "surrogate": lambda net: LatentSurrogate(net, random_state=0),
    "masks": lambda net: RelevanceMasker(net, n_masks=50, random_state=0),
    "embedding": lambda net: EmbeddingAttributor(net),
    "noise": lambda net: NoiseScorer(net, random_state=0),
    "variance": lambda net: VarianceScorer(net),
    "srae": lambda net: SRAEExplainer(net, n_concepts=2, **BRIEF),
    "dictionary": lambda net: SparseDictionary(net, n_concepts=3, k=1, **BRIEF),
    "cladec": lambda net: ClaDecExplainer(net, n_latent=2, **QUICK),
    "dknn": lambda net: DKNNImportance(net),
    "simplex": lambda net: SimplExImportance(net),
    "influence": lambda net: InfluenceImportance(net, loss=mse, damping=1.0, random_state=0),
    "low_rank": lambda net: InfluenceImportance(
        net, loss=mse, solver="low_rank", rank=8, damping=1.0, random_state=0
    ),
    "tracin": lambda net: TracInImportance(net, loss=mse, n_projections=8, random_state=0),
}


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")
@pytest.mark.parametrize("name", EXPLAINERS)
def test_explainers(name, others):
    net = Net().eval()
    same(lambda: EXPLAINERS[name](net).fit(X).transform(X[:7]), others)


NETS = {
    "mlp": lambda: Autoencoder(
        n_components=2, activation="softplus", lambda_noise=0.1, **QUICK
    ).fit(X),
    "conv1d": lambda: Autoencoder("conv1d", n_components=2, **QUICK).fit(SERIES),
    "lstm": lambda: Autoencoder("lstm", n_components=2, **QUICK).fit(SERIES),
    "denoising": lambda: Autoencoder(n_components=2, pretext="denoising", **QUICK).fit(X),
    "inpainting": lambda: Autoencoder(n_components=2, pretext="inpainting", **QUICK).fit(X),
    "variational": lambda: VariationalAutoencoder(n_components=2, **QUICK).fit(X),
    "contrastive": lambda: ContrastiveEncoder(n_components=2, **QUICK).fit(X),
    "views": lambda: ContrastiveEncoder("conv1d", n_components=2, **QUICK).fit(SERIES),
}


@pytest.mark.parametrize("name", NETS)
def test_nets(name, others):
    def run():
        net = NETS[name]()
        data = SERIES if len(net.input_shape_) > 1 else X
        return np.append(pickle.loads(pickle.dumps(net)).transform(data), net.score(data))

    same(run, others)


@pytest.mark.parametrize("estimator", [Autoencoder, VariationalAutoencoder, ContrastiveEncoder])
def test_nets_are_in_single_precision(estimator):
    torch.set_default_dtype(torch.float64)
    try:
        net = estimator(n_components=2, **QUICK).fit(X.astype(np.float64)).net_
    finally:
        torch.set_default_dtype(torch.float32)
    tensors = [*net.module_.parameters(), *net.module_.buffers()]
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float32}


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.ConvergenceWarning")
def test_saved_explainers(others):
    saved = [
        pickle.dumps(explainer.fit(X))
        for explainer in (
            ClaDecExplainer(Net(), **QUICK),
            SRAEExplainer(Net(), n_concepts=2, **BRIEF),
        )
    ]
    same(lambda: np.concatenate([np.ravel(pickle.loads(s).transform(X)) for s in saved]), others)


def classifier():
    with torch.device("cpu"):
        net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).float()
        for number, parameter in enumerate(net.parameters()):
            values = torch.linspace(-1, 1, parameter.numel(), dtype=torch.float32)
            parameter.data = (values * (number + 1)).sin().reshape(parameter.shape)
    return net


# Not on "meta": torch draws a number there for every iteration of a DataLoader.
@pytest.mark.parametrize("others", ["float64"], indirect=True)
def test_a_score_constraint(others):
    def run():
        constraint = ScoreConstraint(lambda_noise=0.5, lambda_variance=0.5, random_state=0)
        net = NeuralNetClassifier(
            classifier(),
            criterion=nn.CrossEntropyLoss,
            max_epochs=2,
            train_split=None,
            callbacks=[constraint],
            device=None,  # skorch leaves everything where it is
            verbose=0,
        ).fit(X, LABELS)
        return net.module_[0].weight.detach().numpy()

    same(run, others)


def test_evaluation_accuracy(others):
    explainer = ClaDecExplainer(classifier(), **QUICK).fit(X)

    def run():
        found = evaluation_accuracy(explainer, X, LABELS, X, LABELS, random_state=0)
        return found.explanation, found.reference

    same(run, others)


def test_a_network_makes_tensors_where_its_user_has_them():
    seen = set()

    class Asks(nn.Linear):
        def forward(self, x):
            seen.add(torch.get_default_device().type)
            return super().forward(x)

    net = Asks(4, 2)
    torch.set_default_device("meta")
    try:
        LabelFreeAttributor(net).fit(X).transform(X)
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)
    assert seen == {"meta"}
