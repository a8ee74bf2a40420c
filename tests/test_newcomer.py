"""An explainer of one's own, written from the docstring of `BaseExplainer` alone."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklexplain.base import BaseExplainer
from sklexplain.nets import Autoencoder
from sklexplain.testing import parametrize_nd_checks

from .cases import NETS, encode, make_net, make_X


class Surprise(BaseExplainer):
    """How far each unit is from its mean, in standard deviations."""

    def __init__(self, estimator, *, scale=1.0):
        self.estimator = estimator
        self.scale = scale

    def _fit(self, inputs, y):
        z = self._representation.activations(inputs, 32)
        self.mean_, self.deviation_ = z.mean(axis=0), z.std(axis=0) + 1e-3

    def _transform(self, inputs):
        z = self._representation.activations(inputs, 32)
        return self._params_at_fit.scale * (z - self.mean_) / self.deviation_


class Watchful(Surprise):
    """The same, which says that its means are of a network as it was."""

    _keeps_results = True


def _autoencoder():
    return Autoencoder(n_components=2, max_epochs=2, validation_split=None, random_state=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [Surprise(PCA(n_components=1)), Surprise(make_pipeline(StandardScaler(), _autoencoder()))]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@parametrize_nd_checks(
    {
        **{n: lambda n=n: (Watchful(make_net(n)), make_X(n)) for n in ("conv2d", "lstm")},
        "pca": lambda: (Surprise(make_pipeline(StandardScaler(), PCA(2))), make_X("mlp")),
        "autoencoder": lambda: (Surprise(_autoencoder()), make_X("mlp")),
    }
)
def test_nd_checks(check):
    check()


@pytest.mark.parametrize("name", sorted(NETS))
def test_values(name):
    net, X = make_net(name), make_X(name)
    z = encode(net, X)
    expected = 2.0 * (z - z.mean(axis=0)) / (z.std(axis=0) + 1e-3)
    found = Surprise(net, scale=2.0).fit(X).transform(X)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
