"""Features that a model never reads take no part in what chance is."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.explaining._idle_features import features_without_effect
from sklexplain.metrics import latent_shift_curve

X, Y = load_iris(return_X_y=True)


def with_columns(n, constant=False):
    added = np.random.default_rng(0).normal(size=(len(X), n))
    return np.hstack([X, np.ones_like(added) if constant else added])


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("method", ["integrated_gradients", "feature_ablation"])
def test_columns_that_no_one_reads_change_no_score(method, constant):
    scores = []
    for n in (0, 4, 20):
        data = with_columns(n, constant)
        scaled = ColumnTransformer([("scaled", StandardScaler(), [0, 1, 2, 3])])
        pipeline = make_pipeline(scaled, LogisticRegression(max_iter=500)).fit(data, Y)
        explainer = LabelFreeAttributor(pipeline, method=method, random_state=0).fit(data)
        scores.append(explainer.score(data))
        assert explainer.latent_shift(data).n_masked.tolist() == [0, 1, 2, 4]
    assert scores[0] > 1.2
    np.testing.assert_allclose(scores, scores[0], rtol=1e-9)


def test_of_a_forest_and_of_groups():
    data = with_columns(2, constant=True)
    forest = RandomForestClassifier(40, max_depth=3, random_state=0).fit(data, Y)
    explainer = LabelFreeAttributor(forest, method="feature_ablation").fit(data)
    assert explainer.latent_shift(data).n_masked[-1] == 4
    explainer.set_params(groups={"a": [0, 1], "b": [2, 3], "c": [4, 5]}).fit(data)
    assert explainer.latent_shift(data).n_masked[-1] == 2


def test_of_categories():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.choice(list("xyz"), 60), "b": rng.choice(list("pq"), 60)})
    frame["c"], frame["same"] = rng.normal(size=60), "one"
    columns = ColumnTransformer([("e", OneHotEncoder(sparse_output=False), ["a", "same"])])
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, frame.a == "x")
    explainer = LabelFreeAttributor(pipeline, method="kernel_shap").fit(frame)
    # Nothing is known of a category that is always the same, so it stays.
    assert explainer.latent_shift(frame).n_masked[-1] == 2


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_one_that_matters_in_a_single_sample_stays(batch_size):
    Z = np.random.default_rng(0).normal(size=(50, 6))
    Z[17, 2] = 9

    def encode(rows):
        return np.stack([rows[:, 0], np.maximum(rows[:, 2] - 8, 0)], axis=1)

    idle = features_without_effect(encode, Z, Z.mean(axis=0), np.arange(6), 6, batch_size)
    assert idle.tolist() == [False, True, False, True, True, True]


def test_what_changes_nothing_as_it_is_constant_but_is_read_stays():
    images = np.zeros((20, 1, 4, 4), dtype=np.float32)
    images[:, :, 1:3, 1:3] = np.random.default_rng(0).uniform(size=(20, 1, 2, 2))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    curve = LabelFreeAttributor(net).fit(images).latent_shift(images)
    assert curve.n_masked[-1] == 16


def test_an_explanation_that_names_them_is_worse():
    Z = np.random.default_rng(0).normal(size=(40, 4))
    idle = np.array([False, False, True, True])
    params = {"mask_value": 0.0, "random_state": 0, "without_effect": idle}

    def encode(rows):
        return rows[:, :2] * [2, 1]

    good = latent_shift_curve(encode, Z, np.abs(Z) * [2, 1, 0, 0], **params)
    bad = latent_shift_curve(encode, Z, np.ones_like(Z) * [2, 1, 9, 9], **params)
    alone = latent_shift_curve(
        encode, Z[:, :2], np.abs(Z[:, :2]) * [2, 1], mask_value=0.0, random_state=0
    )
    assert bad.area_ratio < 1 < good.area_ratio == pytest.approx(alone.area_ratio)
    assert good.separation == pytest.approx(alone.separation)
    # By hand: the most important two are the others, so nothing shifts at all.
    assert bad.most.tolist() == [0, 0, 0]


@pytest.mark.parametrize("flags", [[True, False], [0, 0, 0, 1], "none"])
def test_flags_that_do_not_fit(flags):
    Z = np.ones((5, 4))
    with pytest.raises(ValueError, match="each of the 4 features"):
        latent_shift_curve(lambda rows: rows, Z, Z, mask_value=0.0, without_effect=flags)


def test_a_number_that_the_model_does_not_take_counts_as_an_effect():
    Z = np.random.default_rng(0).normal(size=(20, 3))
    Z[:, 2] = 0

    def encode(rows):
        if (rows[:, 2] < 0).any():
            raise ValueError("no logarithm")
        return rows[:, :1]

    idle = features_without_effect(encode, Z, Z.mean(axis=0), np.arange(3), 3, 9, is_numeric=True)
    assert idle.tolist() == [False, True, False]
