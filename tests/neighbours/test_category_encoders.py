import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

encoders = pytest.importorskip("category_encoders")

from tests.tables import CATEGORIES, NUMBERS, mean_row

from .checks import CLASSES, FRAME, check_sums, check_three

pytestmark = pytest.mark.filterwarnings("ignore")

# Those around another encoder are not encoders themselves.
NAMES = [name for name in encoders.__all__ if "Wrapper" not in name]


@pytest.mark.parametrize("name", NAMES)
def test_every_encoder(name):
    columns = make_column_transformer(
        (SimpleImputer(), NUMBERS), (getattr(encoders, name)(), CATEGORIES)
    )
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=500))
    check_three(pipeline, FRAME, CLASSES, rebuilt=())
    check_sums(pipeline.fit(FRAME, CLASSES), FRAME, mean_row(FRAME))


def test_an_encoder_before_everything():
    pipeline = make_pipeline(
        encoders.TargetEncoder(cols=[*CATEGORIES, "note", "id"]),
        make_column_transformer(("drop", ["seen"]), remainder=SimpleImputer()),
        LogisticRegression(max_iter=500),
    )
    check_three(pipeline, FRAME, CLASSES, rebuilt=())


def test_an_encoder_alone():
    table = FRAME[[*CATEGORIES, "visits"]]
    check_three(encoders.BinaryEncoder(cols=CATEGORIES), table, CLASSES, rebuilt=())
