"""Every explainer on a small problem, for whether a GPU gives what the CPU gives.

``EXPLANATIONS[name](device)`` returns an array: the same whatever the device, up to rounding. What
is trained is trained for a moment only, as rounding grows with every step.
"""

import warnings

import numpy as np
import torch
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
from sklexplain.nets import Autoencoder

N = 64
KINDS = ("mlp", "conv1d", "lstm")
BRIEF = {"max_epochs": 1, "validation_split": None}


class Recurrent(nn.Module):
    def __init__(self, cell=nn.LSTM):
        super().__init__()
        self.rnn = cell(2, 6, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return torch.tanh(self.head(self.rnn(x.transpose(1, 2))[0][:, -1]))


def network(kind):
    """Return an encoder, in eval mode, that is the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "mlp":
            net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh())
        elif kind == "conv1d":
            net = nn.Sequential(
                *(nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ELU()),
                *(nn.Flatten(), nn.Linear(4 * 10, 4)),
            )
        else:
            net = Recurrent({"lstm": nn.LSTM, "gru": nn.GRU}[kind])
    return net.eval()


def samples(kind):
    shape = (6,) if kind == "mlp" else (2, 10)
    return np.random.RandomState(0).normal(size=(N, *shape)).astype(np.float32)


def own_loss(output, x):
    """Loss of each sample."""
    return output.square().sum(dim=1)


def autoencoder(kind, device="cpu"):
    shape = {"hidden_layer_sizes": (5,)} if kind == "mlp" else {}
    learner = Autoencoder(
        module=kind, n_components=3, random_state=0, device=device, **shape, **BRIEF
    )
    return learner.fit(samples(kind))


def explained(cls, kind="mlp", model=None, call="transform", **params):
    """Return a function of a device that fits and explains there."""

    def explain(device):
        X = samples(kind)
        estimator = network(kind) if model is None else model(kind)
        if "random_state" in cls(estimator).get_params(deep=False):
            params.setdefault("random_state", 0)
        explainer = cls(estimator, device=device, **params).fit(X)
        found = getattr(explainer, call)(X)
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found)

    return explain


def _explanations():
    found = {}
    draws = {
        "gradient_shap": {"n_samples": 8},
        "smooth_grad": {"n_samples": 8},
        "shapley_sampling": {"n_samples": 8},
        "kernel_shap": {"n_samples": 64},
        "lime": {"n_samples": 64},
    }
    for method in (
        *("saliency", "input_x_gradient", "integrated_gradients", "deep_lift"),
        *("feature_ablation", "occlusion", *draws),
    ):
        params = {"method": method, "method_params": draws.get(method)}
        if method == "occlusion":
            params["method_params"] = {"window": 2}
        found[f"label-free, {method}"] = explained(LabelFreeAttributor, **params)
    for kind in (*KINDS[1:], "gru"):
        found[f"label-free, {kind}"] = explained(LabelFreeAttributor, kind)
    found["relax"] = explained(RelevanceMasker, n_masks=64)
    for kind in KINDS:
        found[f"embedding, {kind}"] = explained(EmbeddingAttributor, kind)
        found[f"variance score, {kind}"] = explained(VarianceScorer, kind)
        found[f"noise score, {kind}"] = explained(NoiseScorer, kind)
        found[f"DKNN, {kind}"] = explained(DKNNImportance, kind)
    found["SimplEx"] = explained(SimplExImportance)
    for kind in KINDS:
        params = {"model": autoencoder, "damping": 1e-2}
        found[f"influence, {kind}"] = explained(InfluenceImportance, kind, **params)
        found[f"TracIn, {kind}"] = explained(TracInImportance, kind, model=autoencoder)
    found["influence, cg"] = explained(
        InfluenceImportance, loss=own_loss, parameters="all", solver="cg", damping=10.0, tol=1e-4
    )
    found["SRAE"] = explained(SRAEExplainer, **BRIEF)
    found["SRAE, concept maps"] = explained(SRAEExplainer, call="concept_attributions", **BRIEF)
    found["dictionary"] = explained(SparseDictionary, n_concepts=8, k=2, max_epochs=1)
    found["ClaDec"] = explained(ClaDecExplainer, "conv1d", **BRIEF)
    found["surrogate"] = explained(LatentSurrogate)
    found["anomalies"] = explained(AnomalyAttributor, model=autoencoder)
    return found


EXPLANATIONS = _explanations()
# Explainers that are saved where there is a GPU and loaded where there is none.
SAVED = {
    LabelFreeAttributor: {},
    RelevanceMasker: {"n_masks": 64, "random_state": 0},
    EmbeddingAttributor: {},
    VarianceScorer: {},
    NoiseScorer: {"random_state": 0},
    DKNNImportance: {},
    SimplExImportance: {},
    InfluenceImportance: {"loss": own_loss, "parameters": "all", "damping": 10.0},
    TracInImportance: {"loss": own_loss, "parameters": "all"},
    SRAEExplainer: {"random_state": 0, **BRIEF},
    SparseDictionary: {"n_concepts": 8, "k": 2, "max_epochs": 1, "random_state": 0},
    ClaDecExplainer: {"random_state": 0, **BRIEF},
    LatentSurrogate: {"random_state": 0},
    AnomalyAttributor: {"model": autoencoder, "random_state": 0},
}


def largest_difference(name, device):
    """Return the largest difference between a device and the CPU, over the largest number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # networks without any training are to be warned of
        expected, found = EXPLANATIONS[name]("cpu"), EXPLANATIONS[name](device)
    if expected.shape != found.shape:
        return float("inf")
    known = np.isfinite(expected)
    if not np.array_equal(known, np.isfinite(found)):
        return float("inf")
    expected, found = expected[known].astype(np.float64), found[known].astype(np.float64)
    return float(np.abs(expected - found).max(initial=0) / np.abs(expected).max(initial=1e-30))
