"""Torch's modes of the caller change neither how a network is trained nor what it computes."""

import pickle

import numpy as np
import pytest
import torch

from sklexplain import ClaDecExplainer, LabelFreeAttributor
from sklexplain.metrics import evaluation_accuracy, roar
from sklexplain.nets import Autoencoder, ContrastiveEncoder, VariationalAutoencoder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
QUICK = {"n_components": 3, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
MODES = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}
KINDS = {
    "autoencoder": lambda: Autoencoder(**QUICK),
    "with classes": lambda: Autoencoder(lambda_class=1.0, **QUICK),
    "constrained": lambda: Autoencoder(
        activation="softplus", lambda_noise=0.1, score_every=1, **QUICK
    ),
    "variational": lambda: VariationalAutoencoder(**QUICK),
    "contrastive": lambda: ContrastiveEncoder(**QUICK),
}


def results(estimator):
    """All that a fitted estimator can say."""
    Z = estimator.transform(X)
    found = [Z, estimator.score(X, Y)]
    for name, given in (
        ("inverse_transform", Z),
        ("score_samples", X),
        ("sample", 3),
        ("predict", X),
        ("predict_proba", X),
    ):
        if hasattr(estimator, name):
            found.append(getattr(estimator, name)(given))
    return [np.asarray(values) for values in found]


def loaded(estimator, make):
    weights = estimator.net_.module_.state_dict()
    return make().initialize(X, Y).load_state_dict(weights)


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_nets(mode, kind):
    make = KINDS[kind]
    outside = make().fit(X, Y)
    expected = results(outside)
    with MODES[mode]():
        inside = make().fit(X, Y)
        assert_same(results(outside), expected)
        assert_same(results(inside), expected)
        restored = loaded(outside, make)
        assert_same(results(restored), expected)
        unpickled = pickle.loads(pickle.dumps(outside))
    assert inside.loss_curve_ == outside.loss_curve_
    # What was made inside is of use outside, with gradients.
    assert_same(results(inside), expected)
    assert_same(results(restored), expected)
    for made in (inside, restored, unpickled):
        weights = list(made.net_.module_.parameters())
        assert all(not w.is_inference() and w.requires_grad for w in weights)
    assert_same(results(restored.fit(X, Y)), expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("mode", MODES)
def test_measures_that_train(mode):
    explainer = ClaDecExplainer(
        Autoencoder(lambda_class=1.0, **QUICK), reference=None, max_epochs=2, random_state=0
    ).fit(X, Y)

    def found():
        attributor = LabelFreeAttributor(None, random_state=0, method="saliency")
        params = dict(shares=(0.4,), cv=2, n_random=1, random_state=0)
        curves = roar(Autoencoder(**QUICK), attributor, X, **params)
        accuracy = evaluation_accuracy(explainer, X, Y, X, Y, random_state=0)
        return [curves.attributed, curves.random, accuracy.correct_explanation]

    expected = found()
    with MODES[mode]():
        assert_same(found(), expected)
