import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

pytest.importorskip("feature_engine")

from feature_engine import encoding
from feature_engine.datetime import DatetimeFeatures
from feature_engine.discretisation import EqualFrequencyDiscretiser
from feature_engine.imputation import AddMissingIndicator, CategoricalImputer, MeanMedianImputer
from feature_engine.outliers import Winsorizer
from feature_engine.selection import DropFeatures

from tests.tables import CATEGORIES

from .checks import CLASSES, FRAME, check_three

pytestmark = pytest.mark.filterwarnings("ignore")

GAPS = ["age", "weight"]


@pytest.mark.parametrize(
    "encoder",
    [
        encoding.CountFrequencyEncoder(),
        encoding.DecisionTreeEncoder(regression=False, random_state=0),
        encoding.MeanEncoder(),
        encoding.OneHotEncoder(),
        encoding.OrdinalEncoder(),
        encoding.StringSimilarityEncoder(),
        encoding.WoEEncoder(),
    ],
    ids=lambda encoder: type(encoder).__name__,
)
def test_encoders(encoder):
    pipeline = make_pipeline(
        DropFeatures(["id", "note", "seen"]),
        MeanMedianImputer(variables=GAPS),
        CategoricalImputer(variables=CATEGORIES),
        encoder,
        LogisticRegression(max_iter=500),
    )
    check_three(pipeline, FRAME, CLASSES, rebuilt=())


def test_dates_and_indicators():
    pipeline = make_pipeline(
        DropFeatures(["id", "note"]),
        AddMissingIndicator(),
        MeanMedianImputer(variables=GAPS),
        CategoricalImputer(variables=CATEGORIES),
        encoding.OrdinalEncoder(encoding_method="arbitrary"),
        DatetimeFeatures(variables=["seen"], missing_values="ignore"),
        HistGradientBoostingClassifier(max_iter=5),
    )
    check_three(pipeline, FRAME, CLASSES, rebuilt=())


def test_intervals():
    pipeline = make_pipeline(
        DropFeatures(["id", "note", "seen", *CATEGORIES]),
        MeanMedianImputer(),
        EqualFrequencyDiscretiser(q=4, variables=GAPS),
        Winsorizer(variables=["visits"]),
        RandomForestClassifier(5, random_state=0),
    )
    check_three(pipeline, FRAME, CLASSES, rebuilt=())


def test_an_imputer_alone():
    check_three(MeanMedianImputer(), FRAME[GAPS], CLASSES)
