"""Every constructor parameter is given values of all kinds: a right result, or an error about it.

In `make test` a fixed sample, all of them in `make fuzz`.
"""

import inspect
import os
import re
import zlib

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

import sklexplain as sx
from sklexplain.nets import Autoencoder, CheckpointHistory, ScoreConstraint

from .values import make_values

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
MANY = os.environ.get("SKLEXPLAIN_FUZZ") == "many"
SHARE = 1.0 if MANY else 0.03

TRAINED = {"max_epochs": 1, "validation_split": None, "random_state": 0}
QUICK = {
    "SRAEExplainer": TRAINED | {"hidden_layer_sizes": (3,), "warm_up": 0},
    "ClaDecExplainer": TRAINED,
    "Autoencoder": TRAINED | {"n_components": 2, "hidden_layer_sizes": (3,)},
    "LabelFreeAttributor": {"method_params": {"n_steps": 2}, "random_state": 0},
    "CheckpointHistory": {"every": 1},
}
# With early stopping a large number of epochs is what its user asked for.
TOO_LONG = {("max_epochs", 10**9)}


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
EXPLAINERS = [
    *(sx.LabelFreeAttributor, sx.EmbeddingAttributor, sx.NoiseScorer, sx.VarianceScorer),
    *(sx.DKNNImportance, sx.SimplExImportance, sx.InfluenceImportance, sx.TracInImportance),
    *(sx.SRAEExplainer, sx.ClaDecExplainer),
]
CALLBACKS = [CheckpointHistory, ScoreConstraint]


def parameters(cls):
    return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]


CASES = [(cls, name) for cls in [*EXPLAINERS, Autoencoder, *CALLBACKS] for name in parameters(cls)]


def tried(cls, name, key):
    """Tell whether a value is in the sample: the same ones in every run."""
    return zlib.crc32(f"{cls.__name__} {name} {key}".encode()) / 2**32 < SHARE


def run(cls, name, value, folder):
    """Use a class as its users do, with one parameter set."""
    params = QUICK.get(cls.__name__, {}) | {name: value}
    if cls in CALLBACKS:
        if name != "folder":
            params["folder"] = str(folder)
        if cls is ScoreConstraint:
            params.pop("folder")
            params.setdefault("lambda_noise", 0.1)
        callback = cls(**params)
        net_params = {"net_params": {"callbacks": [callback]}}
        return Autoencoder(**QUICK["Autoencoder"] | net_params).fit(X).transform(X[:3])
    if cls is Autoencoder:
        return cls(**params).fit(X).transform(X[:3])
    if "estimator" not in params:
        params["estimator"] = NETWORK
    explainer = cls(**params).fit(X)
    return explainer.transform(X[:3])


def is_about(name, value, message):
    """Tell whether a message is about a parameter, or about the class or function it was given."""
    if name == "estimator" and re.search("network|output|estimator", message):
        return True
    kind = getattr(value, "__name__", type(value).__name__)
    # What a function of the user's raises is passed on as it is.
    named = [name, kind] if callable(value) else [name]
    return any(re.search(rf"\b{re.escape(word)}\b", message, re.I) for word in named) or (
        inspect.isfunction(value) or inspect.isbuiltin(value)
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls, name", CASES, ids=lambda v: getattr(v, "__name__", v))
def test_a_wrong_value_is_named(cls, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failures = []
    for key, value in make_values().items():
        if not tried(cls, name, key) or (isinstance(value, int) and (name, value) in TOO_LONG):
            continue
        torch.manual_seed(0)
        try:
            result = run(cls, name, value, tmp_path / "run")
        except (ValueError, TypeError, NotFittedError, OSError) as error:
            if not is_about(name, value, str(error)):
                failures.append(f"{name}={key}: {type(error).__name__}: {str(error)[:300]}")
        except Exception as error:
            failures.append(f"{name}={key}: {type(error).__name__}: {str(error)[:300]}")
        else:
            result = result.toarray() if hasattr(result, "toarray") else np.asarray(result)
            if not np.isfinite(result).all():
                failures.append(f"{name}={key}: a result that is not finite")
    assert not failures, "\n".join(failures)
