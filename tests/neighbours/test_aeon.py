import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("aeon")

from aeon import pipeline as aeon_pipeline
from aeon.classification.convolution_based import MiniRocketClassifier
from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier
from aeon.classification.feature_based import Catch22Classifier, SummaryClassifier
from aeon.clustering import TimeSeriesKMeans
from aeon.regression.feature_based import SummaryRegressor
from aeon.transformations.collection import Normalizer, Tabularizer
from aeon.transformations.collection.convolution_based import MiniRocket
from aeon.transformations.collection.feature_based import Catch22

from .checks import SERIES, SERIES_CLASSES, SERIES_VALUES, check_three

pytestmark = pytest.mark.filterwarnings("ignore")

SEGMENTS = np.broadcast_to(np.arange(20) // 5, (2, 20))


def check(estimator, y=SERIES_CLASSES, method=None):
    check_three(estimator, SERIES, y, groups=SEGMENTS, method=method)


@pytest.mark.parametrize(
    "transformer",
    [
        MiniRocket(n_kernels=84, random_state=0),
        Catch22(replace_nans=True),
        Normalizer(),
        Tabularizer(),
    ],
    ids=lambda transformer: type(transformer).__name__,
)
def test_transformers(transformer):
    check(transformer)


@pytest.mark.parametrize(
    "classifier",
    [
        MiniRocketClassifier(n_kernels=84, random_state=0),
        KNeighborsTimeSeriesClassifier(n_neighbors=3, distance="euclidean"),
        Catch22Classifier(replace_nans=True, random_state=0),
        SummaryClassifier(random_state=0),
        aeon_pipeline.make_pipeline(Normalizer(), SummaryClassifier(random_state=0)),
        make_pipeline(
            MiniRocket(n_kernels=84, random_state=0), StandardScaler(), LogisticRegression()
        ),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
def test_classifiers(classifier):
    check(classifier, method="predict_proba")


def test_regressors():
    check(SummaryRegressor(random_state=0), SERIES_VALUES, method="predict")


def test_clusterers():
    check(
        TimeSeriesKMeans(
            n_clusters=2,
            max_iter=2,
            distance="euclidean",
            averaging_method="mean",
            random_state=0,
        ),
        method="predict_proba",
    )
