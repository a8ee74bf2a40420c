"""Tables of mixed columns and Pipelines that take them, drawn at random."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

N_SAMPLES = 40


@dataclass
class Drawn:
    """A table, targets and a Pipeline, not fitted.

    ``numeric`` are columns whose number counts as such, by which a derivative can be taken.
    """

    X: pd.DataFrame
    y: np.ndarray
    pipeline: Pipeline
    numeric: list

    def __repr__(self):
        return f"{self.pipeline}\non {self.X.dtypes.to_dict()}"


# -- tables ----------------------------------------------------------------------------------------


@st.composite
def tables(draw):
    """Draw a table, and the names of its columns by kind."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kinds = {"numbers": [], "categories": [], "truths": [], "ids": []}
    columns = {}
    for i in range(draw(st.integers(1, 3))):
        values = rng.normal(draw(st.sampled_from([0.0, 5.0])), 2.0, N_SAMPLES)
        if draw(st.booleans()):
            values = values.round()  # integers, as floats or not
        gaps = rng.random(N_SAMPLES) < draw(st.sampled_from([0.0, 0.15]))
        columns[f"number {i}"] = np.where(gaps, np.nan, values)
        if not gaps.any() and draw(st.booleans()):
            columns[f"number {i}"] = values.round().astype(draw(st.sampled_from(["int64", "int8"])))
        kinds["numbers"].append(f"number {i}")
    for i in range(draw(st.integers(0, 2))):
        names = draw(st.sampled_from([("a", "b"), ("x", "y", "z"), ("no", "yes", "perhaps")]))
        values = pd.Series(rng.choice(names, N_SAMPLES))
        if draw(st.booleans()):
            values[rng.random(N_SAMPLES) < 0.1] = None
        columns[f"category {i}"] = values.astype(draw(st.sampled_from(["object", "category"])))
        kinds["categories"].append(f"category {i}")
    if draw(st.booleans()):
        columns["truth"] = rng.random(N_SAMPLES) < 0.5
        kinds["truths"].append("truth")
    if draw(st.booleans()):
        columns["id"] = [f"P{i}" for i in rng.permutation(N_SAMPLES)]
        kinds["ids"].append("id")
    order = draw(st.permutations(list(columns)))
    X = pd.DataFrame({name: columns[name] for name in order})
    first = np.nan_to_num(np.asarray(X[kinds["numbers"][0]], dtype=np.float64))
    y = first + 0.5 * rng.normal(size=N_SAMPLES)
    for name in kinds["categories"]:
        y += (X[name] == X[name].dropna().iloc[0]).to_numpy()
    return X, y, kinds


# -- steps -----------------------------------------------------------------------------------------

imputers = st.builds(
    SimpleImputer,
    strategy=st.sampled_from(["mean", "median", "most_frequent", "constant"]),
    add_indicator=st.booleans(),
    keep_empty_features=st.booleans(),
)
scalers = st.one_of(
    st.builds(StandardScaler, with_mean=st.booleans(), with_std=st.booleans()),
    st.builds(MinMaxScaler, clip=st.booleans()),
    st.builds(RobustScaler),
    st.builds(MaxAbsScaler),
)
curved = st.one_of(
    st.builds(PolynomialFeatures, degree=st.just(2), include_bias=st.booleans()),
    st.builds(
        KBinsDiscretizer, n_bins=st.just(3), quantile_method=st.just("averaged_inverted_cdf")
    ),
    st.builds(QuantileTransformer, n_quantiles=st.just(10)),
    st.builds(FunctionTransformer, st.sampled_from([np.tanh, np.cbrt, None])),
    st.builds(PCA, st.just(1)),
)
mixing = st.one_of(
    st.builds(StandardScaler, with_mean=st.just(False)),
    st.builds(TruncatedSVD, n_components=st.just(1), random_state=st.just(0)),
    st.builds(SelectKBest, k=st.just(1)),
    st.builds(VarianceThreshold),
    st.just(None),
)


def pipeline_of(*steps):
    return Pipeline([(f"step {i}", s) for i, s in enumerate(steps) if s is not None])


@st.composite
def number_branches(draw):
    """Draw what numbers go through: a scaler and an imputer in either order, perhaps more."""
    steps = [draw(st.one_of(scalers, st.none())), draw(imputers)]
    if draw(st.booleans()):
        steps.reverse()
    if draw(st.integers(0, 2)) == 0:
        steps.append(draw(curved))
    if draw(st.integers(0, 3)) == 0:
        return FeatureUnion(
            [("as they are", pipeline_of(*steps)), ("scaled", pipeline_of(draw(imputers)))],
            transformer_weights=draw(st.sampled_from([None, {"scaled": 0.5}])),
        )
    return pipeline_of(*steps)


encoders = st.one_of(
    st.builds(
        OneHotEncoder,
        drop=st.sampled_from([None, "first", "if_binary"]),
        sparse_output=st.booleans(),
        handle_unknown=st.sampled_from(["ignore", "infrequent_if_exist"]),
        min_frequency=st.sampled_from([None, 5]),
    ),
    st.builds(
        OrdinalEncoder,
        handle_unknown=st.just("use_encoded_value"),
        unknown_value=st.just(-2),
        encoded_missing_value=st.just(-1),
    ),
    st.builds(TargetEncoder, cv=st.just(2), random_state=st.just(0)),
    st.builds(
        lambda one_hot: pipeline_of(SimpleImputer(strategy="constant", fill_value="none"), one_hot),
        st.builds(OneHotEncoder, handle_unknown=st.just("ignore")),
    ),
)

HEADS = {
    "mlp": st.one_of(
        *(
            st.builds(
                cls,
                hidden_layer_sizes=st.sampled_from([(4,), (5, 3)]),
                activation=st.sampled_from(["relu", "tanh", "logistic"]),
                max_iter=st.just(15),
                random_state=st.just(0),
            )
            for cls in (MLPClassifier, MLPRegressor)
        )
    ),
    "linear": st.one_of(
        st.builds(LogisticRegression, C=st.sampled_from([0.1, 1.0])),
        st.builds(LinearRegression),
        st.builds(Ridge),
        st.builds(RidgeClassifier),
    ),
    "forest": st.one_of(
        *(
            st.builds(cls, st.just(4), max_depth=st.just(3), random_state=st.just(0))
            for cls in (RandomForestClassifier, RandomForestRegressor)
        )
    ),
    "boosting": st.one_of(
        st.builds(GradientBoostingClassifier, n_estimators=st.just(4), random_state=st.just(0)),
        st.builds(HistGradientBoostingRegressor, max_iter=st.just(4)),
    ),
    "unsupervised": st.one_of(
        st.builds(PCA, st.just(1), whiten=st.booleans()),
        st.builds(KMeans, st.just(2), n_init=st.just(1), random_state=st.just(0)),
        st.builds(StandardScaler, with_mean=st.just(False)),
    ),
}


@st.composite
def drawn(draw, head):
    """Draw a table and a Pipeline for it that ends in a head of that kind."""
    X, y, kinds = draw(tables())
    branches = [("numbers", draw(number_branches()), kinds["numbers"])]
    if kinds["categories"]:
        branches.append(("categories", draw(encoders), kinds["categories"]))
    numeric = kinds["numbers"]
    if kinds["truths"]:
        way = draw(st.sampled_from(["passthrough", "drop", OneHotEncoder()]))
        branches.append(("truths", way, kinds["truths"]))
        numeric = numeric + (kinds["truths"] if way == "passthrough" else [])
    columns = ColumnTransformer(
        list(draw(st.permutations(branches))),
        sparse_threshold=draw(st.sampled_from([0.0, 0.3, 1.0])),
    )
    last = draw(HEADS[head])
    y = (y > np.median(y)).astype(int) if hasattr(last, "predict_proba") else y
    if isinstance(last, RidgeClassifier):
        y = (y > np.median(y)).astype(int)
    pipeline = pipeline_of(columns, draw(mixing), last)
    return Drawn(X, y, pipeline, numeric)
