"""What decides the terms of the loss and of the reference: no units, no dropout, no draws."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import ClaDecExplainer
from sklexplain.exceptions import SklexplainWarning, UndefinedMetricWarning

QUICK = {"max_epochs": 5, "validation_split": None, "reference": None, "random_state": 0}


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X[:120] * 20, np.column_stack([y[:120], X[:120, 2]])


@pytest.mark.parametrize("units", [(1e-3, 1e3), (1e3, 1.0)])
@pytest.mark.parametrize("class_target", ["model", "y"])
def test_units_of_a_regressors_output_do_not_matter(diabetes, units, class_target):
    X, y = diabetes
    found = []
    for unit in ((1.0, 1.0), units):
        model = make_pipeline(StandardScaler(), Ridge(1.0)).fit(X, y * unit)
        explainer = ClaDecExplainer(
            model, layer="standardscaler", alpha=0.5, class_target=class_target, **QUICK
        )
        found.append(explainer.fit(X, y * unit).transform(X))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_units_of_activations_do_not_matter(scale):
    X = np.random.default_rng(0).normal(size=(40, 5))
    found = []
    for unit in (1.0, scale):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)).double()
        with torch.no_grad():
            net[0].weight.mul_(unit)
            net[0].bias.mul_(unit)
            net[1].weight.div_(unit)
        explainer = ClaDecExplainer(net, layer="0", alpha=0.3, fidelity="activation", **QUICK)
        found.append(explainer.fit(X).transform(X))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-8)


def test_the_second_term_of_a_regressor_by_hand(diabetes):
    X, y = diabetes
    model = LinearRegression().fit(X, y)
    options = {**QUICK, "max_epochs": 1, "lr": 1e-12}
    losses = [
        ClaDecExplainer(model, layer=None, alpha=alpha, **options).fit(X) for alpha in (1.0, 0.25)
    ]
    X_hat = losses[1].transform(X)
    told = np.square(model.predict(X_hat) - model.predict(X)) / model.predict(X).var(axis=0)
    expected = 0.25 * losses[0].loss_curve_[0] + 0.75 * told.sum(axis=1).mean()
    assert losses[1].loss_curve_[0] == pytest.approx(expected, rel=1e-6)


def test_predictions_that_do_not_vary_are_said(diabetes):
    X, y = diabetes
    model = LinearRegression().fit(X, np.zeros(len(X)))
    with pytest.warns(SklexplainWarning, match="predictions do not vary"):
        explainer = ClaDecExplainer(model, alpha=0.5, **QUICK).fit(X)
    assert np.isfinite(explainer.transform(X)).all()


class Functional(nn.Module):
    """Dropout by a function, beside batch normalisation."""

    def __init__(self, p):
        super().__init__()
        self.first, self.norm, self.p = nn.Linear(6, 8), nn.BatchNorm1d(8), p
        self.hidden, self.last = nn.Identity(), nn.Linear(8, 2)

    def forward(self, x):
        h = nn.functional.dropout(self.norm(self.first(x)).relu(), self.p, self.training)
        return self.last(self.hidden(h))


class Recurrent(nn.Module):
    """Dropout between the layers of an LSTM."""

    def __init__(self, p):
        super().__init__()
        self.rnn = nn.LSTM(2, 5, 2, batch_first=True, dropout=p)
        self.hidden, self.last = nn.Identity(), nn.Linear(5, 2)

    def forward(self, x):
        return self.last(self.hidden(self.rnn(x.unflatten(1, (3, 2)))[0][:, -1]))


def sequential(p):
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Dropout(p), nn.Identity(), nn.Linear(8, 2)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "layer"), [(sequential, "3"), (Functional, "hidden"), (Recurrent, "hidden")]
)
def test_references_train_without_dropout(make, layer):
    X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    found = []
    for p in (0.0, 0.5):
        torch.manual_seed(0)
        net = make(p).eval()
        explainer = ClaDecExplainer(net, layer=layer, **{**QUICK, "reference": "autoencoder"})
        found.append(explainer.fit(X).transform_reference(X))
    np.testing.assert_array_equal(found[0], found[1])
    if make is Functional:  # whose statistics are those of the samples, not (0, 1)
        encoder = explainer._modules["reference"].encoder
        assert encoder.counting == {"norm"} or encoder.counting == {"module.norm"}


def test_references_of_half_networks_train_in_single_precision():
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float16)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)).half()
    explainer = ClaDecExplainer(net, **{**QUICK, "reference": "autoencoder"}).fit(X)
    dtypes = {p.dtype for p in explainer._modules["reference"].parameters()}
    assert dtypes == {torch.float32}


def test_draws_of_more_begin_with_those_of_fewer():
    X = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)
    torch.manual_seed(0)
    for n_latent in (1, 3, 16):
        explainer = ClaDecExplainer(nn.Linear(5, 4), n_latent=n_latent, **QUICK).fit(X)
        many = explainer.sample(X, 64)
        for n in (1, 3, 16):
            np.testing.assert_array_equal(explainer.sample(X, n), many[:, :n])
        assert len(np.unique(many[0, :, 0])) == 64


def test_validation_counts_the_variance_of_the_latent_code():
    X = np.random.default_rng(0).normal(size=(60, 5))
    net = nn.Linear(5, 4).double()
    explainer = ClaDecExplainer(
        net, n_latent=3, max_epochs=2, reference=None, random_state=0, patience=5
    )
    with pytest.warns(SklexplainWarning, match="still improved"):
        explainer.fit(X)
    # By hand, at the weights of the last epoch, which are the best.
    valid = np.sort(np.random.RandomState(explainer.seed_).permutation(60)[:6])
    noise = np.random.RandomState(explainer.seed_).normal(size=(60, 3))[valid]
    module = explainer._decoding()
    x = torch.from_numpy(X[valid])
    with torch.no_grad():
        output, divergence = module(net(x), torch.from_numpy(noise))
    expected = ((output - x).square().sum(dim=1) + divergence).mean()
    assert explainer.validation_loss_curve_[-1] == pytest.approx(expected.item(), rel=1e-9)


def test_several_labels_are_no_classes():
    X = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    torch.manual_seed(0)
    labels = nn.Sequential(nn.Linear(5, 3), nn.Sigmoid())
    explainer = ClaDecExplainer(labels, **QUICK).fit(X)
    assert explainer.task_ == "multilabel"

    def p(X):
        with torch.no_grad():
            return labels(torch.from_numpy(X)).double().numpy()

    said, meant = p(explainer.transform(X)), p(X)
    assert explainer.agreement(X) == np.mean(np.all((said > 0.5) == (meant > 0.5), axis=1)) < 1
    options = {**QUICK, "lr": 1e-9, "max_epochs": 1, "alpha": 0.0}
    for class_target, target in (("model", meant), ("y", (meant > 0.6).astype(float))):
        explainer = ClaDecExplainer(labels, class_target=class_target, **options).fit(X, target)
        said = p(explainer.transform(X))
        expected = -(target * np.log(said) + (1 - target) * np.log(1 - said)).sum(axis=1).mean()
        assert explainer.loss_curve_[0] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="0 or 1 for each label"):
        ClaDecExplainer(labels, class_target="y", **options).fit(X, meant)
    assert ClaDecExplainer(labels, task="regression", **QUICK).fit(X).task_ == "regression"
    # Scores that happen to be between 0 and 1 are still scores.
    small = nn.Linear(5, 3)
    with torch.no_grad():
        small.weight.mul_(1e-2)
        small.bias.fill_(0.3)
    assert ClaDecExplainer(small, **QUICK).fit(X).task_ == "classification"


def test_agreement_of_a_single_sample(diabetes):
    X, y = diabetes
    explainer = ClaDecExplainer(LinearRegression().fit(X, y), **QUICK).fit(X)
    with pytest.warns(UndefinedMetricWarning, match="fewer than two samples"):
        agreement, kept = explainer.score_parts(X[:1])
    assert np.isnan(agreement)
    assert np.isfinite(kept)
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(explainer.score(X[:1]))


@pytest.mark.parametrize("absent", [None, np.nan, pd.NA])
def test_missing_labels_are_named(absent):
    X = np.random.default_rng(0).normal(size=(30, 5))
    net = nn.Linear(5, 3).double()
    y = np.array([0, 1, 2] * 10, dtype=object)
    y[4] = absent
    with pytest.raises(ValueError, match="y (holds|contains|has)"):
        ClaDecExplainer(net, alpha=0.5, class_target="y", **QUICK).fit(X, y)
