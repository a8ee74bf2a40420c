"""Samples in dask: lazy, block by block, and what comes out is what memory gives."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import sklexplain
from sklexplain import (
    AnomalyAttributor,
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    InfluenceImportance,
    LabelFreeAttributor,
    LatentSurrogate,
    NoiseScorer,
    RelevanceMasker,
    SimplExImportance,
    SparseDictionary,
    SRAEExplainer,
    TracInImportance,
    VarianceScorer,
)
from sklexplain.base import BaseExplainer
from sklexplain.exceptions import SklexplainWarning
from sklexplain.utils import drawn_rows

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

NAMES = ["age", "dose", "height", "mass"]
X = np.random.RandomState(0).normal(size=(50, 4))
NEW = 1.01 * X  # p-values of the fitted samples themselves hang on rounding


@pytest.fixture(autouse=True)
def threads():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def make_net(n_out=3, dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, n_out)).to(dtype)


def squares(output, x):
    return (output - x).square().mean(dim=1)


NET, SAME = make_net(), make_net(4)
FOREST = IsolationForest(n_estimators=5, random_state=0)
SHORT = {"random_state": 0, "max_epochs": 1}

CASES = {
    "label-free": (LabelFreeAttributor(NET), ["transform", "unit_attributions"]),
    "groups": (LabelFreeAttributor(NET, groups={"a": NAMES[:2], "b": NAMES[2:]}), ["transform"]),
    "pipeline": (
        LabelFreeAttributor(make_pipeline(StandardScaler(), PCA(2)), method="shapley_sampling"),
        ["transform", "standard_errors"],
    ),
    "masker": (RelevanceMasker(NET, n_masks=20, random_state=0), ["transform", "uncertainty"]),
    "embedding": (EmbeddingAttributor(NET), ["transform"]),
    "anomaly": (
        AnomalyAttributor(SAME, baseline="neighbors"),
        ["transform", "score_samples", "decision_function", "predict", "pvalue"],
    ),
    "detector": (
        AnomalyAttributor(
            IsolationForest(n_estimators=5, random_state=0), method="kernel_shap", random_state=0
        ),
        ["transform", "predict"],
    ),
    "noise": (NoiseScorer(NET, random_state=0), ["transform", "score_samples", "drift"]),
    "variance": (VarianceScorer(NET, random_state=0), ["transform", "score_samples"]),
    "srae": (SRAEExplainer(NET, n_concepts=2, **SHORT), ["transform", "predict", "target_values"]),
    "dictionary": (SparseDictionary(NET, n_concepts=6, k=2, **SHORT), ["transform"]),
    "sparse dictionary": (
        SparseDictionary(NET, n_concepts=6, k=2, sparse_output=True, **SHORT),
        ["transform"],
    ),
    "decoder": (
        ClaDecExplainer(NET, layer="0", **SHORT),
        ["transform", "transform_reference", "reconstruction_loss"],
    ),
    "surrogate": (LatentSurrogate(NET, random_state=0), ["transform"]),
    "neighbours": (DKNNImportance(NET), ["transform"]),
    "few neighbours": (DKNNImportance(NET, n_neighbors=3), ["transform"]),
    "simplex": (SimplExImportance(NET), ["transform", "residual", "duality_gap"]),
    "influence": (InfluenceImportance(SAME, loss=squares, parameters="all"), ["transform"]),
    "tracin": (TracInImportance(SAME, loss=squares, parameters="all"), ["transform"]),
}


def frame(X=X):
    return pd.DataFrame(X, columns=NAMES, index=np.arange(len(X)) * 10)


_FITTED = {}


@pytest.fixture
def fitted(request):
    """An explainer of a case, fitted once."""
    name = request.param
    if name not in _FITTED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of short training and few samples
            _FITTED[name] = CASES[name][0].fit(frame())
    return _FITTED[name]


def dense(values):
    return values.toarray() if sparse.issparse(values) else np.asarray(values)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("fitted, name", [(name, name) for name in CASES], indirect=["fitted"])
def test_results_are_those_of_memory(fitted, name):
    array = da.from_array(NEW, chunks=(30, 2))
    for method in CASES[name][1]:
        expected = getattr(fitted, method)(frame(NEW))
        for lazy_X in (array, dd.from_pandas(frame(NEW), npartitions=2)):
            lazy = getattr(fitted, method)(lazy_X)
            assert isinstance(lazy, da.Array), method
            assert lazy.shape[1:] == expected.shape[1:] and lazy.dtype == expected.dtype, method
            result = lazy.compute()
            assert type(result) is type(expected) and result.dtype == expected.dtype, method
            rtol, atol = (1e-4, 1e-6) if result.dtype == np.float32 else (1e-7, 1e-9)
            np.testing.assert_allclose(dense(result), dense(expected), rtol=rtol, atol=atol)


def test_every_explainer_is_tried():
    public = [getattr(sklexplain, name) for name in sklexplain.__all__]
    ours = {k for k in public if isinstance(k, type) and issubclass(k, BaseExplainer)}
    assert ours == {type(explainer) for explainer, _ in CASES.values()}


def test_bit_for_bit_where_blocks_are_arrays():
    explainer = LabelFreeAttributor(make_net(dtype=torch.float32)).fit(X.astype(np.float32))
    lazy = explainer.transform(da.from_array(X.astype(np.float32), chunks=(20, 4)))
    np.testing.assert_array_equal(lazy, explainer.transform(X.astype(np.float32)))


class Counter:
    """Counts the blocks that are made and the batches that a network is run on."""

    def __init__(self):
        self.blocks = self.batches = 0
        self.net = make_net()
        self.net[0].register_forward_hook(self._count_batch)

    def _count_batch(self, *_):
        self.batches += 1

    def block(self, i):
        self.blocks += 1
        return X[10 * i : 10 * i + 10]

    def part(self, i):
        return frame(self.block(i))

    def array(self):
        parts = [dask.delayed(self.block)(i) for i in range(5)]
        return da.concatenate([da.from_delayed(part, (10, 4), X.dtype) for part in parts])

    def frame(self):
        return dd.from_map(self.part, range(5), meta=frame(X[:0]))


@pytest.mark.parametrize("kind", ["array", "frame"])
def test_nothing_runs_before_compute(kind):
    counter = Counter()
    explainers = [LabelFreeAttributor(counter.net), DKNNImportance(counter.net, n_neighbors=3)]
    explainers = [explainer.fit(frame()) for explainer in explainers]
    lazy_X = getattr(counter, kind)()
    before = counter.batches
    lazy = [explainer.transform(lazy_X) for explainer in explainers]
    lazy += explainers[1].top_examples(lazy_X, 2)
    pandas = explainers[0].set_output(transform="pandas").transform(lazy_X)
    assert counter.blocks == 0 and counter.batches == before
    assert [each.shape[1] for each in [*lazy, pandas]] == [4, 50, 2, 2, 4]
    with pytest.warns(UserWarning, match="feature names") if kind == "array" else _nothing():
        lazy[0].compute()
    assert counter.blocks == 5 and counter.batches > before


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_the_explainer_is_one_task_and_stays_what_it_was():
    explainer = LabelFreeAttributor(make_net()).fit(X)
    expected = explainer.transform(X)
    lazy = explainer.transform(da.from_array(X, chunks=(5, 4)))
    (best,) = dask.optimize(lazy)
    for graph in (lazy.__dask_graph__(), best.__dask_graph__()):
        holders = [t for t in dict(graph).values() if len(pickle.dumps(t)) > 5_000]
        assert len(holders) == 1
    explainer.set_params(method="saliency").fit(X + 1)
    np.testing.assert_array_equal(lazy, expected)


@pytest.mark.parametrize("chunks", [(20, 4), (20, 2)])
def test_blocks_of_unknown_and_of_no_length(chunks):
    explainer = LabelFreeAttributor(NET).fit(X)
    array = da.from_array(X, chunks=chunks)
    chosen = array[(da.arange(50, chunks=20) >= 20)]  # nothing of the first block
    result = explainer.transform(chosen)
    assert np.isnan(result.shape[0]) and result.shape[1] == 4
    np.testing.assert_allclose(result, explainer.transform(X[20:]), rtol=1e-12)
    index = DKNNImportance(NET).fit(X).top_examples(chosen, 2)[1]
    np.testing.assert_array_equal(index.compute()[:, 0], np.arange(20, 50))


def test_series_cut_along_every_axis():
    series = np.random.RandomState(1).normal(size=(12, 2, 8))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)).double()
    explainer = LabelFreeAttributor(net).fit(series)
    lazy = explainer.transform(da.from_array(series, chunks=(5, 1, 4)))
    assert lazy.shape == (12, 2, 8)
    np.testing.assert_allclose(lazy, explainer.transform(series), rtol=1e-12)
    named = explainer.set_output(transform="pandas").transform(da.from_array(series, chunks=5))
    expected = explainer.transform(series)
    assert list(named.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(named.compute(), expected, check_column_type=False)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_dataframes_out():
    explainer = LabelFreeAttributor(NET).fit(frame()).set_output(transform="pandas")
    expected = explainer.transform(frame())
    lazy = explainer.transform(dd.from_pandas(frame(), npartitions=3))
    assert isinstance(lazy, dd.DataFrame) and list(lazy.columns) == NAMES
    pd.testing.assert_frame_equal(lazy.compute(), expected, check_column_type=False)
    of_array = explainer.transform(da.from_array(X, chunks=(20, 4)))
    assert isinstance(of_array, dd.DataFrame)
    expected = expected.reset_index(drop=True)
    pd.testing.assert_frame_equal(of_array.compute(), expected, check_column_type=False)
    both = explainer.fit_transform(dd.from_pandas(frame(), npartitions=3))
    assert isinstance(both, dd.DataFrame) and list(both.columns) == NAMES
    with pytest.raises(TypeError, match="'polars'.*no lazy form"):
        explainer.set_output(transform="polars").transform(of_array)


# -- fit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("explainer", [LabelFreeAttributor(NET), AnomalyAttributor(PCA(2))])
@pytest.mark.filterwarnings("ignore:with 15 calibration samples")
def test_small_collections_are_fitted_on_whole(explainer):
    explainer.set_params(random_state=0)
    expected = explainer.fit(frame()).transform(frame())
    lazy = dd.from_pandas(frame(), npartitions=3)
    result = explainer.fit(lazy).transform(lazy)
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12)
    assert "_whole" not in vars(explainer)
    pickle.loads(pickle.dumps(explainer))


@pytest.fixture
def few_drawn(monkeypatch):
    monkeypatch.setattr("sklexplain.utils._dask._MOST_ROWS", 12)
    monkeypatch.setattr("sklexplain.utils._dask._FEWEST_ROWS", 1)


@pytest.mark.usefixtures("few_drawn")
def test_of_large_collections_some_are_drawn_and_means_are_of_all():
    array = da.from_array(X, chunks=(7, 2))
    fitted = []
    for seed in (0, 0, 1):
        explainer = LabelFreeAttributor(NET, random_state=seed)
        with pytest.warns(SklexplainWarning, match="X has 50 samples in dask.*fitted on 12"):
            fitted.append(explainer.fit(array))
    first, again, other = (explainer._kept["inputs"] for explainer in fitted)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (12, 4) and not np.array_equal(first, other)
    where = [np.flatnonzero((X == row).all(axis=1)).item() for row in first]
    assert where == sorted(set(where))
    np.testing.assert_allclose(fitted[0].mean_, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(fitted[0].baseline_[0], X.mean(axis=0), rtol=1e-12)
    expected = LabelFreeAttributor(NET).fit(X).transform(X)
    np.testing.assert_allclose(fitted[0].transform(X), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("few_drawn")
def test_every_sample_is_drawn_equally_often():
    array = da.from_array(np.arange(60.0)[:, None], chunks=((5, 35, 20), 1))
    counts = np.zeros(60)
    with dask.config.set(scheduler="synchronous"):
        for seed in range(10):
            rows, _, n = drawn_rows(array, None, seed)
            assert n == 60 and len(rows) == 12
            counts[rows[:, 0].astype(int)] += 1
    assert counts.max() < 2 + 5 * np.sqrt(2 * 0.8) and counts.any()


@pytest.mark.usefixtures("few_drawn")
@pytest.mark.filterwarnings("ignore:X has 50 samples in dask")
def test_targets_are_drawn_with_their_samples():
    table = frame().assign(label=(X[:, 0] > 0).astype(int))
    lazy = dd.from_pandas(table, npartitions=3)
    array = da.from_array(X, chunks=(20, 4))
    label = table["label"].to_numpy()
    given = [
        (lazy[NAMES], lazy["label"]),
        (array, da.from_array(label, chunks=25)),
        (array, label),
    ]
    for each, y in given:
        rows, drawn, _ = drawn_rows(each, y, 0)
        np.testing.assert_array_equal(np.asarray(rows)[:, 0] > 0, np.asarray(drawn) == 1)
        contrast = LabelFreeAttributor(NET, corpus={"label": 1}, foil="rest", random_state=0)
        assert contrast.fit(each, y).transform(X[:2]).shape == (2, 4)
    with pytest.raises(TypeError, match="unknown lengths.*a column of"):
        LabelFreeAttributor(NET).fit(lazy[NAMES], label)
    with pytest.raises(ValueError, match="X has 3 blocks of samples but y has 2"):
        LabelFreeAttributor(NET).fit(lazy[NAMES], da.from_array(label, chunks=25))
    with pytest.raises(ValueError, match="X has 50 samples but y has 3"):
        LabelFreeAttributor(NET).fit(array, [1, 0, 1])


# -- corpora ---------------------------------------------------------------------------------------

DOUBLED = np.concatenate([X, X[:10]])  # exact duplicates, in other blocks
QUERIES = np.concatenate([X[:5], X[:5] + 0.1])


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"n_neighbors": 4},
        {"kernel": "cosine", "n_neighbors": 3},
        {"kernel": "rbf", "metric": "manhattan"},
    ],
)
def test_neighbours_in_blocks_are_those_of_the_whole_corpus(params):
    memory = DKNNImportance(NET, random_state=0, **params).fit(DOUBLED)
    blocks = DKNNImportance(NET, random_state=0, **params).fit(
        da.from_array(DOUBLED, chunks=(25, 2))
    )
    # One scale for all: each block's own would be off by 0.9 % at duplicates.
    assert blocks.median_distance_ == memory.median_distance_
    assert blocks._resolution == pytest.approx(memory._resolution, rel=1e-12)
    expected = memory.transform(QUERIES)
    result = blocks.transform(QUERIES)
    assert type(result) is type(expected) and result.dtype == expected.dtype
    np.testing.assert_allclose(dense(result), dense(expected), rtol=1e-9)
    lazy_X = da.from_array(QUERIES, chunks=(4, 4))
    for expected, *others in zip(
        memory.top_examples(QUERIES, 3),
        blocks.top_examples(QUERIES, 3),
        blocks.top_examples(lazy_X, 3),
        memory.top_examples(lazy_X, 3),
        strict=True,
    ):
        for other in others:
            np.testing.assert_allclose(other, expected, rtol=1e-9)
    if "n_neighbors" in params:
        lazy = blocks.transform(lazy_X)
        assert lazy.shape == (10, 60)
        np.testing.assert_allclose(dense(lazy.compute()), dense(result), rtol=1e-9)
    else:
        with pytest.raises(TypeError, match="set n_neighbors, or call top_examples"):
            blocks.transform(lazy_X)


def test_a_corpus_of_rows_with_names():
    blocks = DKNNImportance(NET).fit(dd.from_pandas(frame(), npartitions=3))
    index = blocks.top_examples(frame(X[[7, 30]]), 1)[1]
    np.testing.assert_array_equal(index, [[70], [300]])
    assert blocks.embedding_.shape == (50, 3)


@pytest.mark.parametrize("params", [{}, {"n_keep": 2}])
def test_combinations_of_a_corpus_in_blocks(params):
    memory = SimplExImportance(NET, tol=1e-10, **params).fit(DOUBLED)
    blocks = SimplExImportance(NET, tol=1e-10, **params).fit(da.from_array(DOUBLED, chunks=(25, 4)))
    queries = np.random.RandomState(2).normal(size=(10, 4))
    expected, result = memory.transform(queries), blocks.transform(queries)
    np.testing.assert_allclose(result.toarray(), expected.toarray(), atol=1e-7)
    np.testing.assert_allclose(blocks.residual(queries), memory.residual(queries), atol=1e-9)
    assert blocks.duality_gap(queries).max() < 1e-9
    with pytest.raises(TypeError, match="transform of samples in dask needs the training examples"):
        blocks.transform(da.from_array(queries, chunks=5))
    with pytest.raises(TypeError, match="score needs the training examples in memory"):
        blocks.score(queries)
    for needing in (blocks.reduced_cost, blocks.feature_projections):
        with pytest.raises(TypeError, match=f"{needing.__name__} needs the training examples"):
            needing(queries)
    with pytest.raises(TypeError, match="top_examples of samples in dask needs the training"):
        blocks.top_examples(da.from_array(queries, chunks=5), 2)
    weights, places = blocks.top_examples(queries, 1)
    np.testing.assert_array_equal(places, memory.top_examples(queries, 1)[1])
    np.testing.assert_allclose(weights, expected.toarray().max(axis=1, keepdims=True), atol=1e-7)


# -- what is refused -------------------------------------------------------------------------------


def test_what_needs_all_samples_says_so():
    array = da.from_array(X, chunks=(20, 4))
    explainer = LabelFreeAttributor(NET).fit(X)
    with pytest.raises(TypeError, match=r"X is a dask Array.*compute\(\).*there are transform, "):
        explainer.score(array)
    table = dd.from_pandas(frame(), npartitions=2)
    with pytest.raises(TypeError, match="a dask DataFrame"):
        explainer.latent_shift(table)
    for kind in (InfluenceImportance, TracInImportance):
        with pytest.raises(TypeError, match="gradients of all training examples.*X is a dask Arr"):
            kind(SAME, loss=squares, parameters="all").fit(array)
    with pytest.raises(TypeError, match="which part of sample_weight"):
        LabelFreeAttributor(PCA(2)).fit(array, sample_weight=np.ones(50))
    with pytest.raises(TypeError, match="y is not cut"):
        InfluenceImportance(SAME, loss=squares, parameters="all").fit(X).transform(array, X)
    with pytest.raises(TypeError, match="in its order"):
        DKNNImportance(NET).fit(X).top_examples(array, 2, exclude_self=True)


def test_a_wrong_shape_is_refused_at_once():
    explainer = LabelFreeAttributor(NET).fit(frame())
    with pytest.raises(ValueError, match="features"):
        explainer.transform(da.zeros((10, 5), chunks=5))
    table = dd.from_pandas(frame().rename(columns={"age": "year"}), npartitions=2)
    with pytest.raises(ValueError, match="feature names"):
        explainer.transform(table)
    with pytest.raises(ValueError, match="axes are never"):
        explainer.transform(da.zeros((10, 4, 2), chunks=5))


def test_subclasses_without_a_form():
    class Surprise(BaseExplainer):
        def __init__(self, estimator):
            self.estimator = estimator

        def _transform(self, inputs):
            return inputs

    explainer = Surprise(PCA(2)).fit(X)
    with pytest.raises(TypeError, match="_row_form.*map_blocks"):
        explainer.transform(da.from_array(X, chunks=20))
