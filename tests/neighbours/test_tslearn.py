import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

pytest.importorskip("tslearn")

from tslearn.clustering import KShape, TimeSeriesKMeans
from tslearn.neighbors import KNeighborsTimeSeriesClassifier, KNeighborsTimeSeriesRegressor
from tslearn.piecewise import PiecewiseAggregateApproximation
from tslearn.preprocessing import (
    TimeSeriesResampler,
    TimeSeriesScalerMeanVariance,
    TimeSeriesScalerMinMax,
)
from tslearn.svm import TimeSeriesSVC, TimeSeriesSVR

from sklexplain import DKNNImportance

from .checks import SERIES, SERIES_CLASSES, SERIES_VALUES, check_three

pytestmark = pytest.mark.filterwarnings("ignore")

# tslearn has channels last.
X = SERIES.swapaxes(1, 2)
SEGMENTS = np.broadcast_to(np.arange(20)[:, None] // 5, (20, 2))


def check(estimator, y=SERIES_CLASSES, method=None):
    check_three(estimator, X, y, groups=SEGMENTS, method=method)


@pytest.mark.parametrize(
    "transformer",
    [
        PiecewiseAggregateApproximation(n_segments=4),
        TimeSeriesResampler(sz=10),
        TimeSeriesScalerMeanVariance(),
        TimeSeriesScalerMinMax(),
        TimeSeriesKMeans(n_clusters=2, max_iter=2, random_state=0),
    ],
    ids=lambda transformer: type(transformer).__name__,
)
def test_transformers_and_clusterers(transformer):
    check(transformer, method="transform")


def test_a_clusterer_that_has_nothing_but_labels_is_refused():
    kshape = KShape(n_clusters=2, max_iter=2, random_state=0).fit(X[:, :, :1])
    with pytest.raises(TypeError, match="returns labels"):
        DKNNImportance(kshape).fit(X[:, :, :1])


@pytest.mark.parametrize(
    ("classifier", "method"),
    [
        (KNeighborsTimeSeriesClassifier(n_neighbors=3, metric="euclidean"), "predict_proba"),
        (TimeSeriesSVC(probability=True, random_state=0), "predict_proba"),
        # It has a predict_proba that raises AttributeError.
        (TimeSeriesSVC(), "decision_function"),
        (
            make_pipeline(
                TimeSeriesScalerMeanVariance(),
                KNeighborsTimeSeriesClassifier(n_neighbors=3, metric="euclidean"),
            ),
            "predict_proba",
        ),
    ],
    ids=["neighbours", "probabilities", "scores", "pipeline"],
)
def test_classifiers(classifier, method):
    check(classifier, method=method)


@pytest.mark.parametrize(
    "regressor",
    [KNeighborsTimeSeriesRegressor(n_neighbors=3, metric="euclidean"), TimeSeriesSVR()],
    ids=lambda regressor: type(regressor).__name__,
)
def test_regressors(regressor):
    check(regressor, SERIES_VALUES, method="predict")
