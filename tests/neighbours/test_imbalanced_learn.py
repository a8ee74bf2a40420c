import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline as plain_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

pytest.importorskip("imblearn")

from imblearn.combine import SMOTETomek
from imblearn.ensemble import (
    BalancedBaggingClassifier,
    BalancedRandomForestClassifier,
    EasyEnsembleClassifier,
    RUSBoostClassifier,
)
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline
from imblearn.under_sampling import RandomUnderSampler

from tests.tables import CATEGORIES
from tests.tables import NUMBERS as NUMERIC

from .checks import FRAME, NUMBER_CLASSES, NUMBERS, RARE, check_three

pytestmark = pytest.mark.filterwarnings("ignore")


def columns():
    """Numbers, and categories one-hot; other columns are dropped."""
    return make_column_transformer(
        (plain_pipeline(SimpleImputer(), StandardScaler()), NUMERIC),
        (OneHotEncoder(handle_unknown="ignore"), CATEGORIES),
    )


@pytest.mark.parametrize(
    "last",
    [
        MLPClassifier((5,), max_iter=20, random_state=0),
        GradientBoostingClassifier(n_estimators=5),
        LogisticRegression(),
        PolynomialFeatures(),
    ],
    ids=lambda last: type(last).__name__,
)
@pytest.mark.parametrize("sampler", [SMOTE, RandomUnderSampler])
def test_samplers_between_the_steps(sampler, last):
    check_three(make_pipeline(columns(), sampler(random_state=0), last), FRAME, RARE, rebuilt=())


def test_a_sampler_first():
    pipeline = make_pipeline(RandomOverSampler(random_state=0), columns(), LogisticRegression())
    check_three(pipeline, FRAME, RARE, rebuilt=())


def test_an_array():
    pipeline = make_pipeline(StandardScaler(), SMOTETomek(random_state=0), LogisticRegression())
    check_three(pipeline, NUMBERS, NUMBER_CLASSES)


@pytest.mark.parametrize(
    "ensemble",
    [
        BalancedBaggingClassifier(n_estimators=3, random_state=0),
        BalancedRandomForestClassifier(5, random_state=0),
        EasyEnsembleClassifier(2, random_state=0),
        RUSBoostClassifier(n_estimators=5, random_state=0),
    ],
    ids=lambda ensemble: type(ensemble).__name__,
)
def test_ensembles(ensemble):
    check_three(ensemble, NUMBERS, NUMBER_CLASSES)
