"""Baselines and groups that name their columns are told by the names, whatever their order."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import (
    AnomalyAttributor,
    LabelFreeAttributor,
    RelevanceMasker,
    SimplExImportance,
    SRAEExplainer,
)

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


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("explainer", [LabelFreeAttributor, AnomalyAttributor])
def test_baselines(explainer, name, model):
    if name == "callable" and model == "scaled":
        pytest.skip("arrays are handed over there")
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
