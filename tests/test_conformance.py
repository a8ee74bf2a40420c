"""Every estimator passes scikit-learn's checks, and ours for any number of axes."""

from inspect import isclass

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import sklexplain
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
from sklexplain.explaining import METHODS
from sklexplain.nets import Autoencoder
from sklexplain.testing.estimator_checks import nd_checks, parametrize_nd_checks
from tests.cases import NETS, make_net, make_reconstructor, make_X


def _autoencoder(module="mlp", **params):
    return Autoencoder(
        module,
        n_components=2,
        hidden_layer_sizes=(4,),
        max_epochs=2,
        validation_split=None,
        random_state=0,
        **params,
    )


def _srae(estimator, **params):
    return SRAEExplainer(
        estimator,
        n_concepts=2,
        hidden_layer_sizes=(4,),
        max_epochs=2,
        validation_split=None,
        random_state=0,
        **params,
    )


# Example importance, ClaDecExplainer and Autoencoder have theirs beside their other tests.
ESTIMATORS = [
    *[LabelFreeAttributor(PCA(n_components=1), method=m, random_state=0) for m in sorted(METHODS)],
    LabelFreeAttributor(_autoencoder(), method="saliency", random_state=0),
    LabelFreeAttributor(
        make_pipeline(StandardScaler(), PCA(n_components=1)), center=True, random_state=0
    ),
    EmbeddingAttributor(PCA(n_components=1), unit_agg="abs"),
    EmbeddingAttributor(make_pipeline(StandardScaler(), _autoencoder()), n_units=1, random_state=0),
    NoiseScorer(_autoencoder(), random_state=0),
    NoiseScorer(make_pipeline(StandardScaler(), PCA(n_components=1)), random_state=0),
    VarianceScorer(_autoencoder(), random_state=0),
    _srae(_autoencoder(), target="norm"),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_number_of_scikit_learn_checks(estimator):
    # With two_d_array=False in its tags an estimator would be given a single check.
    names = [check.func.__name__ for _, check in estimator_checks_generator(estimator)]
    assert len(names) >= 45
    assert {"check_transformer_general", "check_estimators_pickle", "check_set_output"} & set(names)


CASES = [
    *[(LabelFreeAttributor(make_net(name), random_state=0), make_X(name)) for name in sorted(NETS)],
    *[
        (
            LabelFreeAttributor(
                make_net("conv1d"),
                method=method,
                baseline="background",
                random_state=0,
                # Ten times as many as there are entries, not thousands.
                method_params={"n_samples": 200} if method in ("kernel_shap", "lime") else None,
            ),
            make_X("conv1d"),
        )
        for method in sorted(METHODS)
    ],
    *[
        (EmbeddingAttributor(make_net(name), n_units=n, random_state=0), make_X(name))
        for name, n in zip(sorted(NETS), (None, 3, None, None, 2, None, None), strict=True)
    ],
    *[
        (DKNNImportance(make_net(name), n_neighbors=k, random_state=0), make_X(name))
        for name, k in (("conv1d", None), ("conv2d", 3), ("lstm", None), ("mlp", 2))
    ],
    *[
        (SimplExImportance(make_net(name), n_keep=k, random_state=0), make_X(name))
        for name, k in (("conv1d", None), ("conv2d", 3), ("lstm", None), ("mlp", 2))
    ],
    *[
        (TracInImportance(make_reconstructor(name), random_state=0), make_X(name))
        for name in ("conv1d", "conv2d", "lstm", "transformer")
    ],
    *[
        (InfluenceImportance(make_reconstructor(name), damping=0.1, random_state=0), make_X(name))
        for name in ("conv1d", "conv2d", "gru", "mlp")
    ],
    *[
        (scorer(make_net(name), random_state=0), make_X(name))
        for scorer in (NoiseScorer, VarianceScorer)
        for name in sorted(NETS)
    ],
    *[
        (
            ClaDecExplainer(
                make_net(name),
                alpha=alpha,
                reference=reference,
                n_latent=n_latent,
                max_epochs=2,
                validation_split=None,
                random_state=0,
            ),
            make_X(name),
        )
        for name, alpha, reference, n_latent in (
            ("conv1d", 0.5, None, 2),
            ("conv2d", 1.0, "autoencoder", None),
            ("lstm", 0.0, "random", None),
            ("mlp", 0.5, "autoencoder", None),
        )
    ],
    (NoiseScorer(make_net("conv1d"), n_units=3, random_state=0), make_X("conv1d")),
    (VarianceScorer(make_net("conv2d"), n_units=4, random_state=0), make_X("conv2d")),
    *[
        (_srae(make_net(name), layer=layer, target=target), make_X(name))
        for name, layer, target in (
            ("conv1d", None, None),
            ("conv2d", "0", 1),
            ("lstm", "rnn[0]", "norm"),
            ("mlp", None, [0, 2]),
        )
    ],
    (TracInImportance(_autoencoder(pretext="inpainting"), random_state=0), make_X("mlp")),
    (_autoencoder(), make_X("mlp")),
    (_autoencoder(), make_X("conv2d")),
    (_autoencoder("conv1d"), make_X("conv1d")),
    (_autoencoder("lstm"), make_X("lstm")),
    (LabelFreeAttributor(_autoencoder("lstm"), random_state=0), make_X("lstm")),
]


@parametrize_nd_checks(CASES)
def test_nd_checks(check):
    check()


def test_number_of_nd_checks():
    assert [len(list(nd_checks(*case))) for case in CASES] == [15] * len(CASES)
    assert {X.ndim for _, X in CASES} == {2, 3, 4}


def test_every_public_estimator_is_checked():
    public = [getattr(sklexplain, name) for name in sklexplain.__all__]
    public = {c for c in public if isclass(c) and issubclass(c, BaseEstimator)}
    assert public <= {type(case[0]) for case in CASES}


@pytest.mark.parametrize("n_samples", [6])
def test_nd_checks_need_samples(n_samples):
    with pytest.raises(ValueError, match="at least 7"):
        list(nd_checks(_autoencoder(), np.zeros((n_samples, 4))))
