import numpy as np
import pytest

pytest.importorskip("sktime")

from sktime.classification.distance_based import KNeighborsTimeSeriesClassifier
from sktime.classification.dummy import DummyClassifier
from sktime.classification.feature_based import SummaryClassifier
from sktime.classification.kernel_based import RocketClassifier
from sktime.clustering.k_means import TimeSeriesKMeans
from sktime.regression.distance_based import KNeighborsTimeSeriesRegressor
from sktime.transformations.panel.padder import PaddingTransformer
from sktime.transformations.panel.reduce import Tabularizer
from sktime.transformations.panel.rocket import MiniRocketMultivariate
from sktime.transformations.series.summarize import SummaryTransformer

from .checks import SERIES, SERIES_CLASSES, SERIES_VALUES, check_three

pytestmark = pytest.mark.filterwarnings("ignore")

SEGMENTS = np.broadcast_to(np.arange(20) // 5, (2, 20))


def check(estimator, y=SERIES_CLASSES, method=None):
    check_three(estimator, SERIES, y, groups=SEGMENTS, method=method)


@pytest.mark.parametrize(
    "transformer",
    [
        MiniRocketMultivariate(num_kernels=84, random_state=0),
        PaddingTransformer(pad_length=25),
        SummaryTransformer(),
        Tabularizer(),
    ],
    ids=lambda transformer: type(transformer).__name__,
)
def test_transformers(transformer):
    check(transformer, method="transform")


@pytest.mark.parametrize(
    "classifier",
    [
        DummyClassifier(),
        KNeighborsTimeSeriesClassifier(n_neighbors=3, distance="euclidean"),
        RocketClassifier(num_kernels=50, random_state=0),
        SummaryClassifier(random_state=0),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
def test_classifiers(classifier):
    check(classifier, method="predict_proba")


def test_regressors():
    check(KNeighborsTimeSeriesRegressor(distance="euclidean"), SERIES_VALUES, method="predict")


def test_clusterers():
    check(TimeSeriesKMeans(n_clusters=2, max_iter=2, random_state=0), method="predict_proba")
