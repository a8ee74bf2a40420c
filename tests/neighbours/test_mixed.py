"""Pipelines of several libraries on one table of everything."""

import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder, StandardScaler

encoders = pytest.importorskip("category_encoders")
pytest.importorskip("feature_engine")
pytest.importorskip("imblearn")
pytest.importorskip("skrub")

from feature_engine.datetime import DatetimeFeatures
from feature_engine.imputation import CategoricalImputer, MeanMedianImputer
from imblearn import pipeline as imblearn_pipeline
from imblearn.over_sampling import SMOTE
from skrub import StringEncoder, TableVectorizer

from tests.tables import CATEGORIES, NUMBERS, mean_row

from .checks import CLASSES, FRAME, RARE, VALUES, check_sums, check_three

pytestmark = pytest.mark.filterwarnings("ignore")


def dates_as_days(X):
    # Since a fixed day: since the first one of a batch, a row would depend on the others.
    return (X - pd.Timestamp("2024-01-01")).apply(lambda column: column.dt.days).fillna(-1.0)


def everything(categories):
    """Each kind of column by another library; ids are not read."""
    return make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), NUMBERS),
        (categories, CATEGORIES),
        (make_pipeline(DatetimeFeatures(missing_values="ignore"), SimpleImputer()), ["seen"]),
        (TfidfVectorizer(max_features=6), "note"),
        ("passthrough", ["smoker"]),
    )


PIPELINES = {
    "text, dates and a target encoder": (
        make_pipeline(everything(encoders.TargetEncoder()), LogisticRegression(max_iter=500)),
        CLASSES,
    ),
    "samplers behind them": (
        imblearn_pipeline.make_pipeline(
            everything(encoders.HelmertEncoder()),
            SMOTE(random_state=0),
            MLPClassifier((5,), max_iter=20, random_state=0),
        ),
        RARE,
    ),
    "skrub before boosting with categories": (
        make_pipeline(
            TableVectorizer(
                low_cardinality=OrdinalEncoder(
                    handle_unknown="use_encoded_value", unknown_value=-1
                ),
                high_cardinality=StringEncoder(n_components=3),
            ),
            HistGradientBoostingClassifier(max_iter=5),
        ),
        CLASSES,
    ),
    "frames from step to step": (
        make_pipeline(
            CategoricalImputer(variables=CATEGORIES),
            MeanMedianImputer(variables=["age", "weight"]),
            encoders.CatBoostEncoder(cols=[*CATEGORIES, "note"]),
            make_column_transformer(
                (FunctionTransformer(dates_as_days), ["seen"]),
                ("drop", ["id"]),
                remainder="passthrough",
            ),
            Ridge(),
        ),
        VALUES,
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines(name):
    pipeline, y = PIPELINES[name]
    check_three(pipeline, FRAME, y, rebuilt=())
    check_sums(pipeline.fit(FRAME, y), FRAME, mean_row(FRAME))
