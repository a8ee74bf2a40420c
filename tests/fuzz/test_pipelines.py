"""Pipelines drawn at random, beside their own outputs, brute force and finite differences."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

pytest.importorskip("hypothesis")

from hypothesis import given, reject
from hypothesis import strategies as st

from sklexplain import LabelFreeAttributor
from sklexplain.representation import Representation
from tests import oracles

from .pipelines import HEADS, drawn

pytestmark = pytest.mark.filterwarnings("ignore")

EXPLAINED, ABSENT = slice(0, 2), slice(10, 13)


@pytest.mark.parametrize("head", HEADS)
def test_pipelines(head):
    @given(drawn(head), st.data())
    def check(case, data):
        try:
            pipeline = clone(case.pipeline).fit(case.X, case.y)
        except (ValueError, TypeError) as error:
            # Too few columns for a step; sparse ones for another.
            if not re.search("while a minimum of|Sparse data was passed", str(error)):
                raise
            reject()
        check_output(pipeline, case.X)
        players = data.draw(st.permutations(range(case.X.shape[1])))
        check_shapley_values(pipeline, case.X, players)
        check_saliency(pipeline, case)

    check()


def check_output(pipeline, X):
    """The explained function is the estimator's own output."""
    representation = Representation(pipeline, X.shape[1], X=X)
    with representation.session(), representation.reading():
        found = representation.activations(representation.inputs(X), 16)
    own = oracles.output(pipeline, X)
    np.testing.assert_allclose(found, own, atol=1e-6 * max(np.abs(own).max(), 1e-3))


# -- Shapley values --------------------------------------------------------------------------------


def values_of_coalitions(pipeline, X, groups):
    """<f(x), f(x with all but a coalition's cells from another row)>, by coalition and sample."""
    samples, background = np.arange(len(X))[EXPLAINED], np.arange(len(X))[ABSENT]
    coalitions = list(itertools.product([False, True], repeat=len(groups)))
    # Which row of X each cell comes from, by coalition, sample and row of the background.
    shape = len(coalitions), len(samples), len(background)
    sources = {}
    for i, group in enumerate(groups):
        present = np.array([c[i] for c in coalitions])[:, None, None]
        source = np.where(present, samples[None, :, None], background[None, None, :])
        sources |= dict.fromkeys(group, np.broadcast_to(source, shape).ravel())
    table = pd.DataFrame({name: X[name].take(sources[i]).array for i, name in enumerate(X.columns)})
    outputs = oracles.output(pipeline, table).reshape(*shape, -1).mean(axis=2)
    values = (outputs * oracles.output(pipeline, X[EXPLAINED])).sum(axis=2)
    return dict(zip(coalitions, values, strict=True))


def brute_force(pipeline, X, groups):
    """Shapley values by their definition, (n_samples, n_groups), and their scale."""
    values = values_of_coalitions(pipeline, X, groups)
    n = len(groups)
    shapley = np.zeros((len(next(iter(values.values()))), n))
    for coalition, value in values.items():
        for i in range(n):
            if not coalition[i]:
                size = sum(coalition)
                weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                joined = tuple(c or j == i for j, c in enumerate(coalition))
                shapley[:, i] += weight * (values[joined] - value)
    return shapley, max(np.abs(v).max() for v in values.values())


def check_shapley_values(pipeline, X, players):
    """Kernel SHAP with all coalitions, and Shapley sampling of two groups in both orders."""
    columns = [[i] for i in range(X.shape[1])]
    found = attributor(pipeline, X, "kernel_shap").transform(X[EXPLAINED])
    expected, scale = brute_force(pipeline, X, columns)
    np.testing.assert_allclose(found, expected, atol=1e-6 * max(scale, 1e-6))
    if X.shape[1] > 1:
        # Two orders are all there are.
        half = len(players) // 2
        groups = [players[:half], players[half:]]
        names = {f"group {i}": X.columns[group].tolist() for i, group in enumerate(groups)}
        explainer = attributor(
            pipeline, X, "shapley_sampling", method_params={"n_samples": 2}, groups=names
        )
        expected, scale = brute_force(pipeline, X, groups)
        found = explainer.transform(X[EXPLAINED])
        np.testing.assert_allclose(found, expected, atol=1e-6 * max(scale, 1e-6))


def attributor(pipeline, X, method, **params):
    return LabelFreeAttributor(
        pipeline, method=method, baseline=X[ABSENT], random_state=0, **params
    ).fit(X)


# -- saliency --------------------------------------------------------------------------------------


def check_saliency(pipeline, case):
    """The gradient of <f(x), f(.)> in raw units, where there is one."""
    X = case.X
    explainer = LabelFreeAttributor(pipeline, method="saliency", random_state=0)
    try:
        found = explainer.fit(X).transform(X[EXPLAINED])
    except TypeError as error:
        assert "no gradient" in str(error) or "no torch form" in str(error)
        return
    samples = X[EXPLAINED]
    Z = oracles.output(pipeline, samples)
    for j, name in enumerate(X.columns):
        if name not in case.numeric:
            np.testing.assert_array_equal(found[:, j], 0, err_msg=name)
            continue
        spread = np.nanstd(X[name].to_numpy(np.float64)) or 1.0
        for i in np.flatnonzero(samples[name].notna()):
            slope = derivative(pipeline, samples.iloc[[i]], name, Z[i], 1e-4 * spread)
            if slope is not None:
                scale = (Z[i] ** 2).sum() / spread
                assert found[i, j] == pytest.approx(slope, rel=1e-3, abs=1e-4 * max(scale, 1e-9))


def derivative(pipeline, sample, name, z, h):
    """Derivative of <z, f(.)> by one column; None at a kink or jump."""
    steps = np.array([-2, -1, 0, 1, 2]) * h
    rows = sample.loc[sample.index.repeat(5)].reset_index(drop=True)
    rows[name] = rows[name].to_numpy(np.float64) + steps
    values = oracles.output(pipeline, rows) @ z
    left, right = values[2] - values[0], values[4] - values[2]
    inner = values[3] - values[1]
    size = np.abs([left, right, inner]).max()
    if np.abs(left - right) > 1e-2 * size or np.abs(left - inner) > 1e-2 * size:
        return None
    return inner / (2 * h)
