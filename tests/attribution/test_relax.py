"""RELAX against a loop over masks, in float64."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklexplain import RelevanceMasker
from sklexplain.attribution import time_segments
from sklexplain.exceptions import ConvergenceWarning

RNG = np.random.RandomState(0)


def cosine(a, b):
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / size if size > 0 else 0.0


def slow(f, x, baselines, cells, n_masks, seed, relative=False):
    """R, U and standard errors of cells of one sample, mask by mask."""
    n_cells = cells.max() + 1
    masks = np.random.RandomState(seed).uniform(size=(n_masks, n_cells)) < 0.5
    s = [
        np.mean([cosine(f(x), f(np.where(mask[cells], x, b))) for b in baselines]) for mask in masks
    ]
    R, U, se = np.full((3, n_cells), np.nan)
    for i in range(n_cells):
        kept = np.array([value for value, mask in zip(s, masks, strict=True) if mask[i]])
        left = np.array([value for value, mask in zip(s, masks, strict=True) if not mask[i]])
        if len(kept):
            R[i], U[i] = kept.mean(), np.mean((kept - kept.mean()) ** 2)
        if len(kept) > 1:
            se[i] = np.sqrt(np.sum((kept - kept.mean()) ** 2)) / len(kept)
        if relative:
            R[i] -= left.mean()
            se[i] = np.hypot(se[i], np.sqrt(np.sum((left - left.mean()) ** 2)) / len(left))
    return R, U, se


def functional(net):
    def f(x):
        with torch.no_grad():
            return net(torch.from_numpy(x)[None])[0].numpy()

    return f


def dense(n_features):
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(n_features, 12), nn.Tanh(), nn.Linear(12, 4)
    return nn.Sequential(*layers).double()


def series():
    torch.manual_seed(0)
    layers = nn.Conv1d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 21, 3)
    return nn.Sequential(*layers).double()


def images():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 4 * 10, 3)
    return nn.Sequential(*layers).double()


def blocks(shape, n_rows, n_columns):
    rows = np.arange(shape[0]) * n_rows // shape[0]
    columns = np.arange(shape[1]) * n_columns // shape[1]
    return rows[:, None] * n_columns + columns


CASES = {
    "table": (dense(5), (5,), {}, np.arange(5)),
    "groups": (dense(5), (5,), {"groups": [0, 1, 0, 2, 2]}, np.array([0, 1, 0, 2, 2])),
    "series": (series(), (2, 23), {}, np.tile(np.arange(23) * 10 // 23, (2, 1))),
    "segments": (
        series(),
        (2, 23),
        {"groups": time_segments(23, 4)},
        np.tile(np.repeat(np.arange(4), np.diff(np.arange(5) * 23 // 4)), (2, 1)),
    ),
    "image": (images(), (1, 6, 12), {"n_cells": [3, 4]}, blocks((6, 12), 3, 4)[None]),
}


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("baseline", ["mean", "background"])
@pytest.mark.parametrize("name", CASES)
def test_mask_by_mask(name, baseline, relative):
    net, shape, params, cells = CASES[name]
    X = RNG.normal(size=(6, *shape))
    options = {"n_masks": 40, "baseline": baseline, "relative": relative, "random_state": 0}
    fitted = RelevanceMasker(net, batch_size=7, **options, **params).fit(X)
    found = fitted.transform(X[:2]), fitted.uncertainty(X[:2]), fitted.standard_errors(X[:2])
    for i in range(2):
        args = X[i], fitted.baseline_, cells, 40, fitted.seed_, relative
        for actual, expected in zip(found, slow(functional(net), *args), strict=True):
            expected = expected if "groups" in params else expected[cells]
            np.testing.assert_allclose(actual[i], expected, rtol=1e-9, atol=1e-12)


def test_importance_is_the_mean_of_endless_masks():
    """Intervals of few masks hold what all masks give, as often as they should."""
    net, X = dense(5), RNG.normal(size=(20, 5))
    f = functional(net)
    masks = np.array(np.meshgrid(*[[False, True]] * 5)).reshape(5, -1).T
    mean = X.mean(axis=0)
    s = np.array([[cosine(f(x), f(np.where(mask, x, mean))) for mask in masks] for x in X])
    exact = (s @ masks) / masks.sum(axis=0)
    held = []
    for seed in range(25):
        fitted = RelevanceMasker(net, n_masks=100, random_state=seed).fit(X)
        found = fitted.confidence_intervals(X)
        held.append((found.low <= exact) & (exact <= found.high))
    assert 0.915 <= np.mean(held) <= 0.975
    # Uncertainty does not become smaller with more masks, standard errors do.
    few, many = (RelevanceMasker(net, n_masks=n, random_state=0).fit(X) for n in (500, 4500))
    ratio = many.uncertainty(X).mean() / few.uncertainty(X).mean()
    assert 0.8 < ratio < 1.25
    ratio = many.standard_errors(X).mean() / few.standard_errors(X).mean()
    assert 0.3 < ratio < 0.37


def test_a_column_that_is_not_read():
    net = dense(3)
    with torch.no_grad():
        net[1].weight[:, 2] = 0.0
    X = RNG.normal(size=(10, 3))
    raw = RelevanceMasker(net, n_masks=4000, random_state=0).fit(X)
    relative = RelevanceMasker(net, n_masks=4000, relative=True, random_state=0).fit(X)
    assert np.abs(raw.transform(X)[:, 2]).mean() > 0.1
    found = relative.confidence_intervals(X, confidence_level=0.999)
    assert (np.abs(found.attributions[:, 2]) <= 5 * found.standard_errors[:, 2]).all()
    assert np.abs(found.attributions[:, :2]).mean() > 5 * np.abs(found.attributions[:, 2]).mean()


def test_cells_that_no_mask_keeps():
    X = RNG.normal(size=(4, 8))
    fitted = RelevanceMasker(dense(8), n_masks=2, random_state=0).fit(X)
    kept = (np.random.RandomState(fitted.seed_).uniform(size=(2, 8)) < 0.5).sum(axis=0)
    assert {0, 1, 2} == set(kept)
    assert (np.isnan(fitted.transform(X)) == (kept == 0)).all()
    assert (np.isnan(fitted.uncertainty(X)) == (kept == 0)).all()
    assert (np.isnan(fitted.standard_errors(X)) == (kept < 2)).all()
    fitted.set_params(relative=True).fit(X)
    assert (np.isnan(fitted.transform(X)) == ((kept == 0) | (kept == 2))).all()
    with pytest.warns(ConvergenceWarning, match="raise n_masks"):
        assert np.isfinite(fitted.score(X))


def test_a_code_of_zero_is_like_nothing():
    net = nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU()).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2, 3))
    X = -np.abs(RNG.normal(size=(4, 3)))
    fitted = RelevanceMasker(net, n_masks=50, random_state=0).fit(X)
    assert (fitted.transform(X) == 0).all() and (fitted.uncertainty(X) == 0).all()


def test_black_boxes_and_raw_columns():
    frame = pd.DataFrame(
        {"a": RNG.normal(size=60), "b": RNG.normal(size=60), "c": list("xyz") * 20}
    )
    head = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["c"]))
    pipeline = make_pipeline(head, PCA(2)).fit(frame)
    fitted = RelevanceMasker(pipeline, n_masks=50, random_state=0).fit(frame)
    assert fitted.transform(frame).shape == frame.shape
    named = RelevanceMasker(pipeline, n_masks=50, groups={"numbers": ["a", "b"], "c": ["c"]})
    maps = named.set_output(transform="pandas").fit(frame).transform(frame)
    assert maps.columns.tolist() == ["numbers", "c"]
    X = frame[["a", "b"]].to_numpy()
    forest = RandomForestRegressor(3, random_state=0).fit(X, X[:, 0])
    assert np.isfinite(
        RelevanceMasker(forest, n_masks=20, random_state=0).fit(X).transform(X)
    ).all()


def test_score_and_state():
    net, X = series(), RNG.normal(size=(20, 2, 23))
    with torch.no_grad():  # the first part of the series is read most
        net[3].weight.view(3, 4, 21)[:, :, 8:] *= 0.02
    fitted = RelevanceMasker(net, n_masks=600, random_state=0).fit(X)
    assert fitted.score(X) > 1.2
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    assert fitted.feature_importances_.shape == (2, 23)
    assert fitted.cells_.shape == (2, 23) and fitted.cells_.max() == 9


@pytest.mark.parametrize(
    ("net", "shape", "params", "message"),
    [
        (dense(5), (5,), {"n_cells": 2}, "every column of a table"),
        (series(), (2, 23), {"n_cells": 24}, "only 23 entries"),
        (series(), (2, 23), {"n_cells": [2, 2]}, "each of the 1 axes"),
        (series(), (2, 23), {"n_cells": 3, "groups": time_segments(23, 4)}, "set one"),
        (dense(5), (5,), {"n_masks": 0}, "n_masks"),
    ],
)
def test_what_does_not_fit_is_refused(net, shape, params, message):
    with pytest.raises(ValueError, match=message):
        RelevanceMasker(net, **params).fit(RNG.normal(size=(4, *shape)))
