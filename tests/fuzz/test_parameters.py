"""Every parameter of every public class is given values of all kinds.

Each ends in a right result, or in a ValueError, TypeError or NotFittedError that names the
parameter. In `make test` all values meet the checks that come before anything is computed, and a
fixed sample of those that pass is used; in `make fuzz` all of them are.
"""

import inspect
import os
import re
import zlib

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

import sklexplain as sx
from sklexplain import metrics, plotting
from sklexplain.nets import (
    Autoencoder,
    CheckpointHistory,
    ContrastiveEncoder,
    ScoreConstraint,
    VariationalAutoencoder,
)
from sklexplain.report import RepresentationReport
from sklexplain.representation import check_estimator_type
from sklexplain.utils import check_params

from .values import make_values

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
MANY = os.environ.get("SKLEXPLAIN_FUZZ") == "many"
SHARE = 1.0 if MANY else 0.01

TRAINED = {"max_epochs": 1, "validation_split": None, "random_state": 0}
QUICK = {
    "SRAEExplainer": TRAINED | {"hidden_layer_sizes": (3,), "warm_up": 0},
    "ClaDecExplainer": TRAINED,
    "SparseDictionary": {"n_concepts": 6, "k": 2, "max_epochs": 1, "random_state": 0},
    "AnomalyAttributor": {"method_params": {"n_steps": 2}, "random_state": 0},
    "Autoencoder": TRAINED | {"n_components": 2, "hidden_layer_sizes": (3,)},
    "VariationalAutoencoder": TRAINED | {"n_components": 2, "hidden_layer_sizes": (3,)},
    "ContrastiveEncoder": TRAINED | {"n_components": 2, "hidden_layer_sizes": (3,)},
    "LabelFreeAttributor": {"method_params": {"n_steps": 2}, "random_state": 0},
    "RelevanceMasker": {"n_masks": 50, "random_state": 0},
    "CheckpointHistory": {"every": 1},
    "ScoreConstraint": {"lambda_noise": 0.1},
    "RepresentationReport": {"n_explained": 3, "n_examples": 1, "random_state": 0},
    "AnomalyDisplay": {"sample": X[0], "attributions": X[1]},
    "AttributionDisplay": {"sample": X[0], "attributions": X[1]},
    "ConceptDisplay": {"sample": X[0], "maps": X[:2], "contributions": [1.0, -1.0]},
    "ExampleDisplay": {"sample": X[0], "examples": X[1:3]},
    "ImportanceDisplay": {"attributions": X[:5]},
    "DictionaryDisplay": {
        "examples": X.reshape(2, 10, 4),
        "values": np.ones((2, 10)),
        "maps": X.reshape(2, 10, 4),
    },
    "SpectrumDisplay": {"attributions": X[0], "cycles": [0, 0.5, 1, 1.5]},
    "SurrogateDisplay": {"r2": [0.5, 0.1], "importances": abs(X[:2])},
    "LatentShiftDisplay": dict.fromkeys(("fractions", "most", "least", "random"), [0.5, 1.0]),
    "ReconstructionDisplay": {"inputs": X[:2], "reconstructions": X[2:4]},
    "ScoreCurveDisplay": {"layers": ["a", "b", "c", "d"], "scores": X},
}
# Without early stopping, a large number of epochs is what its user asked for.
ENDLESS = ("max_epochs", "warm_up")


class Encoder(nn.Module):
    """A network with an encoder that has maps, so that every parameter has a right value."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4))
        self.decoder = nn.Linear(4, 4)

    def forward(self, x):
        return self.decoder(self.encoder(x))


NETWORK = Encoder()
DISPLAYS = [getattr(plotting, name) for name in plotting.__all__]
CALLBACKS = [CheckpointHistory, ScoreConstraint]
CLASSES = [
    *(getattr(sx, name) for name in sx.__all__ if name[0] != "_"),
    *(Autoencoder, ContrastiveEncoder, VariationalAutoencoder),
    *(RepresentationReport, *CALLBACKS, *DISPLAYS),
]
CASES = [(cls, name) for cls in CLASSES for name in inspect.signature(cls).parameters]


def made(cls, name, value, folder):
    """Construct an object of a class with one parameter set: no value is refused there."""
    params = QUICK.get(cls.__name__, {}) | {name: value}
    if cls is CheckpointHistory:
        params.setdefault("folder", str(folder))
    if "estimator" in inspect.signature(cls).parameters:
        params.setdefault("estimator", NETWORK)
    return cls(**params)


def check(it):
    """Look at the parameters as `fit`, `plot` or `initialize` do first."""
    if hasattr(it, "estimator"):
        check_estimator_type(it.estimator)
    return it._validate_params() if hasattr(type(it), "_check_params") else check_params(it)


def use(it):
    """Use an object as its users do; return numbers that must be finite."""
    if isinstance(it, tuple(DISPLAYS)):
        from matplotlib import pyplot

        try:
            it.plot()
        finally:
            pyplot.close("all")
        return np.zeros(0)
    if isinstance(it, tuple(CALLBACKS)):
        params = QUICK["Autoencoder"] | {"net_params": {"callbacks": [it]}}
        return Autoencoder(**params).fit(X).transform(X[:3])
    it.fit(X)
    if isinstance(it, RepresentationReport):
        return it.attributions_
    result = it.transform(X[:3])
    return result.toarray() if hasattr(result, "toarray") else np.asarray(result)


def is_tried(cls, name, key):
    """Tell whether a value is in the sample: the same ones in every run."""
    return zlib.crc32(f"{cls.__name__} {name} {key}".encode()) / 2**32 < SHARE


def wrong(name, error):
    """Say what is wrong with an error; None if it is a right one."""
    kinds = (ValueError, TypeError, NotFittedError)
    if name == "folder":  # that cannot be made or written to
        kinds += (OSError,)
    if not isinstance(error, kinds):
        return f"{type(error).__name__}: {str(error)[:300]}"
    # What a model lacks for an explanation is said of its network.
    names = f"{name}|network|layer|ReLU" if name == "estimator" else name
    if not re.search(rf"(?<!\w)({names})(?!\w)", str(error)):
        return f"does not name it: {type(error).__name__}: {str(error)[:300]}"
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls, name", CASES, ids=lambda v: getattr(v, "__name__", v))
def test_a_wrong_value_is_named(cls, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failures, n_refused = [], 0
    for key, value in make_values().items():
        problem = None
        it = made(cls, name, value, tmp_path / "run")
        try:
            check(it)
        except Exception as error:
            problem, n_refused = wrong(name, error), n_refused + 1
        else:
            endless = name in ENDLESS and isinstance(value, int) and value > 1000
            if not is_tried(cls, name, key) or endless:
                continue
            torch.manual_seed(0)
            try:
                if not np.isfinite(use(it)).all():
                    problem = "a result that is not finite"
            except Exception as error:
                problem = wrong(name, error)
        if problem is not None:
            failures.append(f"{name}={key}: {problem}")
    assert not failures, "\n".join(failures)
    # Of every parameter some values are known to be wrong before anything is computed.
    assert n_refused > 0


@pytest.mark.parametrize("cls, name", CASES, ids=lambda v: getattr(v, "__name__", v))
def test_wrong_kinds_are_refused_in_scikit_learns_words(cls, name, tmp_path):
    if name == "estimator":
        return  # of which there is more to say
    words = rf"^The '{name}' parameter of {cls.__name__} must be (.|\n)+\. Got .+ instead\."
    with pytest.raises(InvalidParameterError, match=words):
        check(made(cls, name, type("BadType", (), {})(), tmp_path))


LABELS = np.arange(20) % 2
CURVE = {"mask_value": 0.0, "fractions": (0.5, 1.0), "n_random": 1}
ROAR = PCA(1), lambda model, X_train, X: X
# By the name of a parameter, functions of it.
FUNCTIONS = [
    ("absolute", lambda v: metrics.map_sparsity(X, absolute=v)),
    ("average", lambda v: metrics.locality(X, [[0, 1], [2, 3]], average=v)),
    ("least", lambda v: metrics.similarity_rate(np.eye(20), LABELS, LABELS, least=v)),
    ("n_top", lambda v: metrics.similarity_rate(np.eye(20), LABELS, LABELS, n_top=v)),
    ("mode", lambda v: metrics.saliency_correlation(X, X[::-1], mode=v)),
    ("center", lambda v: metrics.completeness_error(X, lambda x: x, X, X[0], center=v)),
    (
        "n_random",
        lambda v: metrics.latent_shift_curve(lambda x: x, X, X, **CURVE | {"n_random": v}),
    ),
    (
        "random_state",
        lambda v: metrics.latent_shift_curve(lambda x: x, X, X, **CURVE, random_state=v),
    ),
    ("batch_size", lambda v: metrics.latent_shift_curve(lambda x: x, X, X, **CURVE, batch_size=v)),
    ("mode", lambda v: metrics.unit_correlation(X[:, :, None], mode=v)),
    ("average", lambda v: metrics.unit_correlation(X[:, :, None], average=v)),
    ("threshold", lambda v: metrics.active_units(X, threshold=v)),
    ("shares", lambda v: metrics.roar(*ROAR, X, shares=v, cv=2, n_random=1)),
    ("n_random", lambda v: metrics.roar(*ROAR, X, shares=[0.5], cv=2, n_random=v)),
    ("random_state", lambda v: metrics.roar(*ROAR, X, shares=[0.5], cv=2, random_state=v)),
    ("n_parts", lambda v: metrics.grid_parts((20, 20), v)),
    ("confidence_level", lambda v: metrics.interpretability(None, X, confidence_level=v)),
    ("n_seeds", lambda v: metrics.interpretability(None, X, n_seeds=v)),
    ("confidence_level", lambda v: metrics.evaluation_accuracy(*[None] * 5, confidence_level=v)),
    ("random_state", lambda v: metrics.evaluation_accuracy(*[None] * 5, random_state=v)),
    ("cv", lambda v: metrics.evaluation_accuracy_scorer(cv=v)),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, function", FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_a_wrong_value_of_a_function_is_named(name, function):
    failures, n_refused = [], 0
    for key, value in make_values().items():
        if isinstance(value, int) and value > 1000 and name == "n_random":
            continue  # as many draws as its user asked for
        try:
            function(value)
        except Exception as error:
            problem = wrong(name, error)
            if problem is None:
                n_refused += 1
            elif "None" not in str(error) and "explainer" not in str(error):
                failures.append(f"{name}={key}: {problem}")
    assert not failures, "\n".join(failures)
    assert n_refused > 20
