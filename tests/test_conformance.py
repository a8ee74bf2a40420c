"""Every estimator passes scikit-learn's checks, and ours for any number of axes.

What cannot depend on a parameter is checked once: of the attribution methods one of each kind
passes all of scikit-learn's checks, the others those that look at results.
"""

from inspect import isclass

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import sklexplain
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
    scores,
)
from sklexplain.explaining import METHODS
from sklexplain.nets import Autoencoder, ContrastiveEncoder, VariationalAutoencoder
from sklexplain.testing import TOPICS, nd_checks, parametrize_nd_checks
from tests.cases import NETS, make_net, make_reconstructor, make_X

TRAINING = {"max_epochs": 2, "validation_split": None, "random_state": 0}


def _autoencoder(module="mlp", **params):
    defaults = {"n_components": 2, "hidden_layer_sizes": (4,), **TRAINING}
    return Autoencoder(module, **(defaults | params))


def _variational(module="mlp", **params):
    defaults = {"n_components": 2, "hidden_layer_sizes": (4,), **TRAINING}
    return VariationalAutoencoder(module, **(defaults | params))


def _contrastive(module="mlp", **params):
    defaults = {"n_components": 2, "hidden_layer_sizes": (4,), "projection_dim": 3, **TRAINING}
    return ContrastiveEncoder(module, **(defaults | params))


def _srae(estimator, **params):
    return SRAEExplainer(estimator, n_concepts=2, hidden_layer_sizes=(4,), **TRAINING, **params)


def _dictionary(estimator, **params):
    options = {"n_concepts": 6, "k": 2, "max_epochs": 2, "random_state": 0}
    return SparseDictionary(estimator, **options, **params)


def _cladec(estimator, **params):
    return ClaDecExplainer(estimator, **TRAINING, **params)


def _anomaly(estimator, **params):
    # With few samples no p-value is smaller.
    return AnomalyAttributor(estimator, contamination=0.5, random_state=0, **params)


# All of them, so that a new one is checked without a line here.
SCORERS = [vars(scores)[name] for name in scores.__all__ if name.endswith("Scorer")]


def _short(scorer):
    return scorer.__name__.removesuffix("Scorer").lower()


def _pca():
    return PCA(n_components=1)


def _scaled(step):
    return make_pipeline(StandardScaler(), step)


# -- scikit-learn's checks

# Gradients, a path, a design of masks, and rules of propagation.
ONE_OF_EACH_KIND = ("deep_lift", "feature_ablation", "integrated_gradients", "saliency")

SCIKIT_LEARN_CASES = {
    **{
        f"label_free-{m}": LabelFreeAttributor(_pca(), method=m, random_state=0)
        for m in sorted(METHODS)
    },
    "anomaly": _anomaly(_pca()),
    "anomaly-neighbors": _anomaly(_scaled(_pca()), baseline="neighbors", n_neighbors=2),
    "anomaly-detector": _anomaly(
        IsolationForest(n_estimators=5, random_state=0), method="feature_ablation", calibration=0.5
    ),
    "label_free-autoencoder": LabelFreeAttributor(
        _autoencoder(), method="saliency", random_state=0
    ),
    "label_free-pipeline": LabelFreeAttributor(_scaled(_pca()), center=True, random_state=0),
    "relax": RelevanceMasker(_pca(), n_masks=50, random_state=0),
    "embedding": EmbeddingAttributor(_pca(), unit_agg="abs"),
    "embedding-pipeline": EmbeddingAttributor(_scaled(_autoencoder()), n_units=1, random_state=0),
    "dknn": DKNNImportance(_pca(), random_state=0),
    "dknn-sparse": DKNNImportance(_pca(), n_neighbors=1, kernel="rbf", random_state=0),
    "simplex": SimplExImportance(_pca(), random_state=0),
    "simplex-nearest": SimplExImportance(_pca(), n_keep=1, locality=0, random_state=0),
    "tracin": TracInImportance(_autoencoder(max_epochs=1), random_state=0),
    "tracin-projected": TracInImportance(
        _autoencoder(max_epochs=1, pretext="denoising"), n_projections=8, random_state=0
    ),
    "influence": InfluenceImportance(_autoencoder(max_epochs=1), damping=10.0, random_state=0),
    **{_short(scorer): scorer(_autoencoder(), random_state=0) for scorer in SCORERS},
    "noise-pipeline": NoiseScorer(_scaled(_pca()), random_state=0),
    # Unscaled, the checks' data saturate the network, whose output is then constant.
    "srae": _srae(_scaled(_autoencoder()), target="norm"),
    "dictionary": _dictionary(_scaled(_autoencoder())),
    "surrogate": LatentSurrogate(_pca(), random_state=0),
    "cladec": _cladec(_pca(), alpha=0.5),
    "cladec-pipeline": _cladec(_scaled(_pca()), reference="random"),
    "autoencoder": Autoencoder(max_epochs=3, hidden_layer_sizes=(16,), random_state=0),
    "autoencoder-classes": _autoencoder(lambda_class=1.0, hidden_layer_sizes=(32,), lr=1e-2),
    "variational": _variational(max_epochs=1),
    "contrastive": _contrastive(max_epochs=1),
    "autoencoder-scores": _autoencoder(
        lambda_noise=0.1,
        lambda_variance=0.1,
        activation="softplus",
        score_every=2,
        hidden_layer_sizes=(8,),
    ),
}

# Those that a classifier passes only once it has learned: (names of checks, parameters).
WELL_TRAINED = ({"check_classifiers_train", "check_classifiers_classes"}, {"max_epochs": 30})

# Those of scikit-learn's checks that look at results.
RESULTS = {
    "check_dict_unchanged",
    "check_estimators_dtypes",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_readonly_memmap_input",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
}

_HELD_OUT = "the threshold is that of samples that the model was not trained on"
_OWN_CORPUS = "fit_transform leaves every example out of its own corpus, transform does not"

# name of the check: (classes, reason). For TracIn and Influence the difference is below the
# absolute tolerance of these checks, because of the learning rate and the damping.
EXPECTED_FAILURES = {
    "check_outliers_train": ((AnomalyAttributor,), _HELD_OUT),
    "check_outliers_fit_predict": ((AnomalyAttributor,), _HELD_OUT),
    "check_transformer_general": ((DKNNImportance, SimplExImportance), _OWN_CORPUS),
    "check_transformer_data_not_an_array": ((DKNNImportance, SimplExImportance), _OWN_CORPUS),
    "check_pickle_size": (
        (DKNNImportance, InfluenceImportance, SimplExImportance, TracInImportance),
        "the corpus is needed: score compares its inputs, gradients are taken anew",
    ),
}


def expected_failures(estimator):
    """Reasons by the name of the check, for scikit-learn's and for ours."""
    return {
        name: reason
        for name, (classes, reason) in EXPECTED_FAILURES.items()
        if isinstance(estimator, classes)
    }


# These differ from a case of the same class that is checked in full by what results are of.
LIKE_ANOTHER = {
    *("anomaly-neighbors", "anomaly-detector", "cladec-pipeline", "dknn-sparse"),
    *("embedding-pipeline", "label_free-pipeline", "noise-pipeline", "simplex-nearest"),
    "tracin-projected",
}


def _is_checked_in_full(name):
    if name in LIKE_ANOTHER:
        return False
    method = name.removeprefix("label_free-")
    return method not in METHODS or method in ONE_OF_EACH_KIND


def _checks(name):
    estimator = SCIKIT_LEARN_CASES[name]
    every = [check for _, check in estimator_checks_generator(estimator, legacy=True)]
    return [c for c in every if _is_checked_in_full(name) or c.func.__name__ in RESULTS]


SCIKIT_LEARN_CHECKS = {name: _checks(name) for name in SCIKIT_LEARN_CASES}


def _params():
    for name, checks in SCIKIT_LEARN_CHECKS.items():
        reasons = expected_failures(SCIKIT_LEARN_CASES[name])
        for check in checks:
            reason = reasons.get(check.func.__name__)
            marks = () if reason is None else pytest.mark.xfail(reason=reason)
            yield pytest.param(name, check, marks=marks, id=f"{name}-{check.func.__name__}")


# Two epochs are too few to converge, and estimators say so in every check.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
# As one component does a single column.
@pytest.mark.filterwarnings("ignore:.* reconstructs every calibration sample")
@pytest.mark.parametrize(("name", "check"), list(_params()))
def test_scikit_learn_checks(name, check):
    estimator = SCIKIT_LEARN_CASES[name]
    if check.func.__name__ in WELL_TRAINED[0]:
        estimator = clone(estimator).set_params(**WELL_TRAINED[1])
    check(estimator)


@pytest.mark.parametrize("name", SCIKIT_LEARN_CASES)
def test_number_of_scikit_learn_checks(name):
    # With two_d_array=False in its tags an estimator would be given a single check.
    names = {check.func.__name__ for check in SCIKIT_LEARN_CHECKS[name]}
    assert names >= RESULTS
    if _is_checked_in_full(name):
        assert len(SCIKIT_LEARN_CHECKS[name]) >= (61 if name == "autoencoder-classes" else 45)
        assert {"check_estimator_cloneable", "check_n_features_in_after_fitting"} <= names


# -- ours


def _case(make, name="mlp"):
    """Case whose network is made when a test runs."""
    return lambda: (make(), make_X(name))


def _of_net(explainer, name, **params):
    return _case(lambda: explainer(make_net(name), random_state=0, **params), name)


def _of_reconstructor(explainer, name, **params):
    return _case(lambda: explainer(make_reconstructor(name), random_state=0, **params), name)


def _array_baseline():
    baseline = np.full((2, 10), 0.1, np.float32)
    return LabelFreeAttributor(make_net("conv1d"), baseline=baseline, random_state=0)


# One of each class and engine: all checks.
ENGINES = {
    "label_free-mlp": _of_net(LabelFreeAttributor, "mlp"),
    "label_free-deep_lift-mlp": _of_net(LabelFreeAttributor, "mlp", method="deep_lift"),
    "label_free-feature_ablation-conv1d": _of_net(
        LabelFreeAttributor, "conv1d", method="feature_ablation"
    ),
    "label_free-baseline-conv1d": _case(_array_baseline, "conv1d"),
    "label_free-autoencoder": _case(lambda: LabelFreeAttributor(_autoencoder(), random_state=0)),
    "anomaly-mlp": _case(
        lambda: _anomaly(make_reconstructor("mlp"), baseline="neighbors", n_neighbors=2)
    ),
    "relax-mlp": _of_net(RelevanceMasker, "mlp", n_masks=200),
    "embedding-mlp": _of_net(EmbeddingAttributor, "mlp"),
    "embedding-pca": _case(lambda: EmbeddingAttributor(_scaled(PCA(2)), random_state=0)),
    "dknn-mlp": _of_net(DKNNImportance, "mlp", n_neighbors=2),
    "simplex-mlp": _of_net(SimplExImportance, "mlp"),
    "simplex-pca": _case(lambda: SimplExImportance(_scaled(PCA(2)), random_state=0)),
    "tracin-mlp": _of_reconstructor(TracInImportance, "mlp"),
    "influence-mlp": _of_reconstructor(InfluenceImportance, "mlp", damping=0.1),
    **{f"{_short(scorer)}-conv1d": _of_net(scorer, "conv1d") for scorer in SCORERS},
    "srae-mlp": _case(lambda: _srae(make_net("mlp"), target=[0, 2])),
    "dictionary-mlp": _case(lambda: _dictionary(make_net("mlp"))),
    "surrogate-mlp": _of_net(LatentSurrogate, "mlp", max_depth=1),
    "cladec-mlp": _case(lambda: _cladec(make_net("mlp"), alpha=0.5, reference="autoencoder")),
    "autoencoder-mlp": _case(_autoencoder),
    "autoencoder-conv2d": _case(_autoencoder, "conv2d"),
    "variational-mlp": _case(_variational),
    "contrastive-mlp": _case(_contrastive),
}


# Of 20 entries. All that is checked holds for any number of masks, orders and steps.
FEW = {
    "integrated_gradients": {"n_steps": 10},
    "kernel_shap": {"n_samples": 100},
    "lime": {"n_samples": 100},
    "shapley_sampling": {"n_samples": 4},
}

# Other parameters: parameters, input, results.
MORE_PARAMETERS = {
    **{
        f"label_free-{m}-conv1d": _of_net(
            LabelFreeAttributor,
            "conv1d",
            method=m,
            baseline="background",
            method_params=FEW.get(m),
        )
        for m in sorted(METHODS)
    },
    **{
        f"label_free-{m}-dct": _of_net(
            LabelFreeAttributor, "conv1d", method=m, basis="dct", method_params=FEW.get(m)
        )
        for m in ("integrated_gradients", "deep_lift", "shapley_sampling")
    },
    "anomaly-autoencoder": _case(lambda: _anomaly(_autoencoder(), baseline="mean")),
    "relax-conv1d": _of_net(RelevanceMasker, "conv1d", n_masks=50, relative=True),
    "relax-conv2d": _of_net(RelevanceMasker, "conv2d", n_masks=50, baseline="background"),
    "embedding-conv2d": _of_net(EmbeddingAttributor, "conv2d", n_units=3),
    "embedding-units-mlp": _of_net(EmbeddingAttributor, "mlp", n_units=2),
    "dknn-conv1d": _of_net(DKNNImportance, "conv1d", n_neighbors=None),
    "simplex-keep-mlp": _of_net(SimplExImportance, "mlp", n_keep=2),
    "tracin-autoencoder": _case(
        lambda: TracInImportance(_autoencoder(pretext="inpainting"), random_state=0)
    ),
    "noise-units-conv1d": _of_net(NoiseScorer, "conv1d", n_units=3),
    "variance-units-conv2d": _of_net(VarianceScorer, "conv2d", n_units=4),
    **{
        f"srae-{name}": _case(
            lambda n=name, lr=layer, t=target: _srae(make_net(n), layer=lr, target=t), name
        )
        for name, layer, target in (
            ("conv1d", None, None),
            ("conv2d", "0", 1),
            ("lstm", "rnn[0]", "norm"),
        )
    },
    "dictionary-conv2d": _case(lambda: _dictionary(make_net("conv2d"), layer="0"), "conv2d"),
    "dictionary-sparse-conv1d": _case(
        lambda: _dictionary(make_net("conv1d"), sparse_output=True), "conv1d"
    ),
    "surrogate-conv1d": _of_net(LatentSurrogate, "conv1d", model="linear", n_segments=2),
    "surrogate-conv2d": _of_net(LatentSurrogate, "conv2d", n_segments=3, units=[4, 0]),
    **{
        f"cladec-{name}": _case(lambda n=name, p=params: _cladec(make_net(n), **p), name)
        for name, params in (
            ("conv1d", {"alpha": 0.5, "n_latent": 2}),
            ("conv2d", {"alpha": 1.0, "reference": "autoencoder"}),
            ("lstm", {"alpha": 0.0, "reference": "random"}),
        )
    },
    "autoencoder-conv1d": _case(lambda: _autoencoder("conv1d"), "conv1d"),
    "autoencoder-lstm": _case(lambda: _autoencoder("lstm"), "lstm"),
    "variational-lstm": _case(lambda: _variational("lstm", total_correlation=True), "lstm"),
    "contrastive-conv1d": _case(lambda: _contrastive("conv1d"), "conv1d"),
    "contrastive-conv2d": _case(lambda: _contrastive("conv2d"), "conv2d"),
}

# Other networks, with parameters that are checked above: results. What is checked of the input is
# the same for all networks of as many axes.
MORE_NETWORKS = {
    **{
        f"label_free-{name}": _of_net(
            LabelFreeAttributor, name, method_params=FEW["integrated_gradients"]
        )
        for name in sorted(NETS)
    },
    "anomaly-lstm": _case(
        lambda: _anomaly(make_reconstructor("lstm"), method_params=FEW["integrated_gradients"]),
        "lstm",
    ),
    **{
        f"embedding-{name}": _of_net(EmbeddingAttributor, name)
        for name in sorted(set(NETS) - {"conv2d", "mlp"})
    },
    **{
        f"dknn-{name}": _of_net(DKNNImportance, name, n_neighbors=k)
        for name, k in (("conv2d", 3), ("lstm", None))
    },
    **{
        f"simplex-{name}": _of_net(SimplExImportance, name, n_keep=k)
        for name, k in (("conv1d", None), ("conv2d", 3), ("lstm", None))
    },
    **{
        f"tracin-{name}": _of_reconstructor(TracInImportance, name)
        for name in ("conv1d", "conv2d", "lstm", "transformer")
    },
    **{
        f"influence-{name}": _of_reconstructor(InfluenceImportance, name, damping=0.1)
        for name in ("conv1d", "conv2d", "gru")
    },
    **{
        f"{_short(scorer)}-{name}": _of_net(scorer, name)
        for scorer in SCORERS
        for name in sorted(set(NETS) - {"conv1d"})
    },
    "label_free-autoencoder-lstm": _case(
        lambda: LabelFreeAttributor(
            _autoencoder("lstm"), method_params=FEW["integrated_gradients"], random_state=0
        ),
        "lstm",
    ),
}


@parametrize_nd_checks(ENGINES, expected_failures)
def test_nd_checks(check):
    check()


@parametrize_nd_checks(
    MORE_PARAMETERS, expected_failures, topics=("parameters", "input", "results")
)
def test_nd_checks_of_more_parameters(check):
    check()


@parametrize_nd_checks(MORE_NETWORKS, expected_failures, topics=("results",))
def test_nd_checks_of_more_networks(check):
    check()


def test_number_of_nd_checks():
    every = {**ENGINES, **MORE_PARAMETERS, **MORE_NETWORKS}
    assert [len(list(nd_checks(*case()))) for case in every.values()] == [35] * len(every)
    assert {case()[1].ndim for case in every.values()} == {2, 3, 4}
    assert len(TOPICS) == 6


def test_every_public_estimator_is_checked():
    public = [getattr(sklexplain, name) for name in sklexplain.__all__]
    public = {c for c in public if isclass(c) and issubclass(c, BaseEstimator)}
    public |= {Autoencoder, ContrastiveEncoder, VariationalAutoencoder}
    assert public <= {type(case()[0]) for case in ENGINES.values()}
    assert public <= {type(estimator) for estimator in SCIKIT_LEARN_CASES.values()}
