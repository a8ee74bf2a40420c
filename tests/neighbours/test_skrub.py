import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("skrub")

from skrub import (
    ApplyToCols,
    MinHashEncoder,
    SelectCols,
    SquashingScaler,
    StringEncoder,
    TableVectorizer,
    tabular_pipeline,
)

from sklexplain import DKNNImportance
from tests.tables import NUMBERS, mean_row

from .checks import CLASSES, FRAME, VALUES, check_sums, check_three

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(("last", "y"), [("classifier", CLASSES), (Ridge(), VALUES)], ids=str)
def test_tabular_pipeline(last, y):
    pipeline = tabular_pipeline(last)
    check_three(pipeline, FRAME, y, rebuilt=())
    check_sums(pipeline.fit(FRAME, y), FRAME, mean_row(FRAME))


@pytest.mark.parametrize("encoder", [MinHashEncoder, StringEncoder])
def test_text(encoder):
    vectoriser = TableVectorizer(high_cardinality=encoder(n_components=4))
    boosting = HistGradientBoostingClassifier(max_iter=5)
    check_three(make_pipeline(vectoriser, boosting), FRAME, CLASSES, rebuilt=())


def test_a_network_at_the_end():
    network = MLPClassifier((5,), max_iter=20, random_state=0)
    pipeline = make_pipeline(TableVectorizer(), SimpleImputer(), StandardScaler(), network)
    check_three(pipeline, FRAME, CLASSES, rebuilt=())


def test_chosen_columns():
    pipeline = make_pipeline(
        ApplyToCols(SquashingScaler(), cols=NUMBERS), SelectCols(NUMBERS), SimpleImputer(), Ridge()
    )
    check_three(pipeline, FRAME, VALUES, rebuilt=())


def test_a_vectoriser_that_keeps_gaps_is_not_blamed_on_the_ids():
    with pytest.raises(ValueError, match="not finite"):
        DKNNImportance(TableVectorizer()).fit(FRAME)
    whole = FRAME.dropna()
    DKNNImportance(TableVectorizer()).fit(whole)
