"""What ``fit`` is given beside X and y goes to the estimator that it fits."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sklexplain import AnomalyAttributor, DKNNImportance, LabelFreeAttributor, VarianceScorer
from sklexplain.nets import Autoencoder

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
SAMPLE_WEIGHT = np.random.default_rng(3).uniform(0.1, 3, size=len(X))
LABELS = (X[:, 0] > np.median(X[:, 0])).astype(int)


def weighted_logits():
    return LogisticRegression().fit(X, LABELS, sample_weight=SAMPLE_WEIGHT).coef_


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
@pytest.mark.parametrize("kind", [LabelFreeAttributor, DKNNImportance, VarianceScorer])
def test_fit_params_go_to_the_estimator(kind, method):
    explainer = kind(LogisticRegression())
    getattr(explainer, method)(X, LABELS, sample_weight=SAMPLE_WEIGHT)
    np.testing.assert_array_equal(explainer.estimator_.coef_, weighted_logits())
    pipeline = kind(make_pipeline(StandardScaler(), LogisticRegression()))
    params = {"logisticregression__sample_weight": SAMPLE_WEIGHT}
    getattr(pipeline, method)(X, LABELS, **params)
    Z = StandardScaler().fit_transform(X)
    alone = LogisticRegression().fit(Z, LABELS, sample_weight=SAMPLE_WEIGHT)
    np.testing.assert_allclose(pipeline.estimator_[-1].coef_, alone.coef_)
    with pytest.raises(TypeError, match="PCA.fit.* got an unexpected keyword argument 'weight'"):
        getattr(kind(PCA(2)), method)(X, weight=SAMPLE_WEIGHT)


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
@pytest.mark.parametrize("kind", [LabelFreeAttributor, DKNNImportance, VarianceScorer])
def test_fit_params_that_nothing_uses(kind, method):
    fitted = LogisticRegression().fit(X, LABELS)
    linear = nn.Linear(X.shape[1], 2)
    for estimator in (fitted, FrozenEstimator(fitted), linear, make_pipeline(fitted)):
        explainer = kind(estimator)
        message = rf"{kind.__name__}\.fit\(\) got sample_weight, .*explained as it is"
        with pytest.raises(TypeError, match=message):
            getattr(explainer, method)(X, LABELS, sample_weight=SAMPLE_WEIGHT)
        getattr(explainer, method)(X, LABELS, sample_weight=None)


def test_metadata_is_routed():
    with config_context(enable_metadata_routing=True):
        asking = LogisticRegression().set_fit_request(sample_weight=True)
        renaming = LogisticRegression().set_fit_request(sample_weight="trust")
        for estimator, name in ((asking, "sample_weight"), (renaming, "trust")):
            explainer = LabelFreeAttributor(estimator)
            explainer.fit(X, LABELS, **{name: SAMPLE_WEIGHT})
            np.testing.assert_array_equal(explainer.estimator_.coef_, weighted_logits())
            pipeline = make_pipeline(StandardScaler(with_mean=False, with_std=False), explainer)
            pipeline[0].set_fit_request(sample_weight=False)
            pipeline.fit_transform(X, LABELS, **{name: SAMPLE_WEIGHT})
            np.testing.assert_allclose(pipeline[-1].estimator_.coef_, weighted_logits())
            search = GridSearchCV(explainer, {"estimator__C": [1.0]}, cv=2)
            search.fit(X, LABELS, **{name: SAMPLE_WEIGHT})
            found = search.best_estimator_.estimator_.coef_
            np.testing.assert_array_equal(found, weighted_logits())
        unset = LabelFreeAttributor(LogisticRegression())
        with pytest.raises(UnsetMetadataPassedError, match="LogisticRegression.fit"):
            unset.fit(X, LABELS, sample_weight=SAMPLE_WEIGHT)
        with pytest.raises(TypeError, match=r"LabelFreeAttributor.*\.fit got unexpected argument"):
            LabelFreeAttributor(asking).fit(X, LABELS, groups=SAMPLE_WEIGHT)
        routes = LabelFreeAttributor(asking).get_metadata_routing()
        assert routes.consumes("fit", ["sample_weight", "groups"]) == {"sample_weight"}
        assert not list(LabelFreeAttributor(nn.Linear(2, 2)).get_metadata_routing())


def test_groups_of_an_anomaly_attributor_are_its_own():
    """With metadata routing it holds whole groups back as without, in a Pipeline, too."""
    groups = np.arange(len(X)) // 3
    expected = AnomalyAttributor(PCA(2), contamination=0.2, random_state=0).fit(X, groups=groups)
    with config_context(enable_metadata_routing=True):
        found = AnomalyAttributor(PCA(2), contamination=0.2, random_state=0).fit(X, groups=groups)
        last = AnomalyAttributor(PCA(2), contamination=0.2, random_state=0)
        pipeline = make_pipeline(FunctionTransformer(), last)
        pipeline.fit(X, groups=groups)
        encoder = Autoencoder(n_components=1, max_epochs=1, validation_split=None, random_state=0)
        encoder.set_fit_request(groups=True)
        AnomalyAttributor(encoder, contamination=0.2, random_state=0).fit(X, groups=groups)
        with pytest.raises(TypeError, match=r"AnomalyAttributor.*fit got unexpected argument"):
            AnomalyAttributor(PCA(2)).fit(X, weights=groups)
    for one in (found, pipeline[-1]):
        np.testing.assert_array_equal(one.calibration_scores_, expected.calibration_scores_)
        np.testing.assert_array_equal(one.estimator_.components_, expected.estimator_.components_)
