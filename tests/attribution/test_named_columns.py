"""Baselines and groups that name their columns are told by the names, whatever their order."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import (
    AnomalyAttributor,
    LabelFreeAttributor,
    RelevanceMasker,
    SimplExImportance,
    SRAEExplainer,
)
from sklexplain.metrics import completeness_error, latent_shift_curve, roar
from sklexplain.plotting import AttributionDisplay, ImportanceDisplay

polars = pytest.importorskip("polars")

NAMES = ["a", "b", "c"]
FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 3)) + [0, 10, 100], columns=NAMES)
REVERSED = FRAME[NAMES[::-1]]
MODELS = {
    "scaled": make_pipeline(StandardScaler(), PCA(2)),
    "imputed": make_pipeline(SimpleImputer(), PCA(2)),
}
BASELINES = {
    "rows": REVERSED.iloc[:4],
    "row": REVERSED.iloc[5],
    "means": REVERSED.mean(),
    "polars": polars.from_pandas(REVERSED.iloc[:4]),
    "callable": lambda X: pd.DataFrame(np.asarray(X) * 0 + [1, 2, 3], columns=NAMES)[NAMES[::-1]],
}


def in_order(baseline):
    if callable(baseline):
        return lambda X: np.asarray(X) * 0 + [1, 2, 3]
    return np.asarray(baseline[NAMES])


# Where nothing is imputed a callable is handed arrays, which name no columns.
PAIRS = [(n, m) for n in BASELINES for m in MODELS if (n, m) != ("callable", "scaled")]


@pytest.mark.parametrize(("name", "model"), PAIRS)
@pytest.mark.parametrize("explainer", [LabelFreeAttributor, AnomalyAttributor])
def test_baselines(explainer, name, model):
    found, expected = (
        explainer(MODELS[model], baseline=baseline, random_state=0).fit(FRAME).transform(FRAME)
        for baseline in (BASELINES[name], in_order(BASELINES[name]))
    )
    np.testing.assert_array_equal(found, expected)


def test_other_columns_are_refused():
    other = FRAME.rename(columns={"c": "d"})
    for baseline in (other.iloc[:2], other.mean(), FRAME.mean().iloc[:2]):
        with pytest.raises(ValueError, match="baseline names other columns than X: .*'a', 'b'"):
            LabelFreeAttributor(MODELS["scaled"], baseline=baseline).fit(FRAME)
    with pytest.raises(ValueError, match="groups names other columns than X"):
        LabelFreeAttributor(PCA(2), groups=pd.Series({"a": 0, "b": 0, "d": 1})).fit(FRAME)


@pytest.mark.parametrize("index", [None, NAMES[::-1]])
def test_groups(index):
    labels = ["g", "h", "h"] if index is None else ["h", "h", "g"]
    groups = pd.Series(labels, index=index)
    for explainer in (LabelFreeAttributor, AnomalyAttributor):
        found = explainer(PCA(2), groups=groups, random_state=0).fit(FRAME)
        expected = explainer(PCA(2), groups=["g", "h", "h"], random_state=0).fit(FRAME)
        assert found.groups_ == expected.groups_ == ["g", "h"]
        np.testing.assert_array_equal(found.transform(FRAME), expected.transform(FRAME))
    masker = RelevanceMasker(PCA(2), groups=groups, n_masks=20, random_state=0).fit(FRAME)
    assert masker.transform(FRAME).shape == (120, 2)


def test_projections_and_concepts():
    simplex = SimplExImportance(PCA(2)).fit(FRAME)
    rows = FRAME.iloc[:2]
    found = simplex.feature_projections(rows, baseline=REVERSED.iloc[5])
    expected = simplex.feature_projections(rows, baseline=FRAME.iloc[5].to_numpy())
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    srae = SRAEExplainer(PCA(2), n_concepts=1, max_epochs=1, random_state=0)
    with pytest.warns(UserWarning):
        srae.fit(FRAME)
    found = srae.concept_attributions(rows, baseline=REVERSED.mean())
    np.testing.assert_array_equal(
        found, srae.concept_attributions(rows, baseline=FRAME.mean().to_numpy())
    )


def test_a_callable_that_takes_frames_only_is_told_what_it_is_given():
    explainer = LabelFreeAttributor(MODELS["scaled"], baseline=lambda X: X.assign(a=0.0))
    with pytest.raises(TypeError, match="is given samples as an array.*'assign'.*take arrays"):
        explainer.fit(FRAME).transform(FRAME)
    whole = LabelFreeAttributor(MODELS["imputed"], baseline=lambda X: X.assign(a=0.0)).fit(FRAME)
    expected = LabelFreeAttributor(
        MODELS["imputed"], baseline=lambda X: np.asarray(X) * [0, 1, 1]
    ).fit(FRAME)
    np.testing.assert_array_equal(whole.transform(FRAME), expected.transform(FRAME))


def test_metrics_and_displays():
    """Attributions, masks and baselines beside a DataFrame are in its order, whatever theirs is."""
    model = MODELS["scaled"].fit(FRAME)

    def encode(X):
        return model.transform(pd.DataFrame(np.asarray(X), columns=NAMES))

    maps = pd.DataFrame(LabelFreeAttributor(model).fit(FRAME).transform(FRAME), columns=NAMES)
    options = {"random_state": 0, "n_random": 3}
    expected = latent_shift_curve(
        encode, FRAME, maps.to_numpy(), mask_value=FRAME.mean().to_numpy(), **options
    )
    for given in (maps, maps[NAMES[::-1]], maps.to_numpy()):
        found = latent_shift_curve(encode, FRAME, given, mask_value=REVERSED.mean(), **options)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])
    errors = completeness_error(maps, encode, FRAME, REVERSED.mean())
    np.testing.assert_array_equal(
        errors, completeness_error(maps, encode, FRAME, FRAME.mean().to_numpy())
    )
    with pytest.raises(ValueError, match="mask_value names other columns than X"):
        other = FRAME.mean().rename({"a": "z"})
        latent_shift_curve(encode, FRAME, maps, mask_value=other, **options)
    for X, given in ((FRAME, maps), (FRAME, maps[NAMES[::-1]]), (FRAME, maps.to_numpy())):
        order = ImportanceDisplay(given, X).plot().order_
        np.testing.assert_array_equal(order, np.argsort(-np.abs(maps.to_numpy()).mean(axis=0)))
    widths = [
        [bar.get_width() for bar in AttributionDisplay(FRAME.iloc[0], one).plot().ax_.patches]
        for one in (maps.iloc[0], maps.iloc[0][NAMES[::-1]])
    ]
    assert widths[0] == widths[1]


def test_roar():
    model = make_pipeline(StandardScaler(), LinearRegression())
    y = FRAME["a"] + 0.1 * FRAME["b"]

    def importance(fitted, X_train, X):
        return (X - X_train.mean()) * fitted[-1].coef_

    options = {"shares": [0.3], "random_state": 0, "n_random": 1}
    expected = roar(model, importance, FRAME, y, **options)
    found = roar(model, lambda *args: importance(*args)[NAMES[::-1]], FRAME, y, **options)
    np.testing.assert_array_equal(found.attributed, expected.attributed)
