"""Large samples are read and cast a few rows at a time."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from sklexplain.anomalies import AnomalyAttributor
from sklexplain.attribution import EmbeddingAttributor, LabelFreeAttributor, RelevanceMasker
from sklexplain.concepts import SparseDictionary, SRAEExplainer
from sklexplain.decoding import ClaDecExplainer
from sklexplain.examples import (
    DKNNImportance,
    InfluenceImportance,
    SimplExImportance,
    TracInImportance,
)
from sklexplain.exceptions import ConvergenceWarning, DataConversionWarning
from sklexplain.scores import NoiseScorer, VarianceScorer
from sklexplain.surrogates import LatentSurrogate
from sklexplain.utils import Rows, Written

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(60, 5))
X = RNG.normal(size=(431, 5))


class Stored:
    """An array in a file, as h5py and zarr have them: it takes slices, and remembers them."""

    def __init__(self, values):
        self._values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.read = []

    def __getitem__(self, index):
        assert isinstance(index, (slice, int))
        rows = self._values[index].copy()
        self.read.append(len(rows) if isinstance(index, slice) else 1)
        return rows

    def __array__(self, dtype=None, copy=None):
        self.read.append(self.shape[0])
        return np.array(self._values, dtype=dtype)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
        self.decoder = nn.Linear(2, 5)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def rebuilt(output, x):
    return (output - x).square().mean(dim=1)


def cross_entropy(output, x, y):
    return nn.functional.cross_entropy(output, y, reduction="none")


torch.manual_seed(0)
LABELS = RNG.integers(4, size=len(TRAIN))
NET = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
MAKE = {
    "saliency": lambda: LabelFreeAttributor(NET, method="saliency"),
    "integrated gradients": lambda: LabelFreeAttributor(NET, method_params={"n_steps": 50}),
    "embedding": lambda: EmbeddingAttributor(NET),
    "noise": lambda: NoiseScorer(NET),
    "variance": lambda: VarianceScorer(NET),
    "srae": lambda: SRAEExplainer(NET, layer="1", n_concepts=2, max_epochs=1, random_state=0),
    "dictionary": lambda: SparseDictionary(NET, layer="1", k=2, max_epochs=1, random_state=0),
    "cladec": lambda: ClaDecExplainer(NET, reference=None, max_epochs=1, random_state=0),
    "anomaly": lambda: AnomalyAttributor(
        Autoencoder(), method="saliency", baseline="neighbors", random_state=0
    ),
    "anomaly, rebuilt": lambda: AnomalyAttributor(
        Autoencoder(), method_params={"n_steps": 4}, baseline="reconstruction"
    ),
    "surrogate": lambda: LatentSurrogate(NET, random_state=0),
    "surrogate, sums": lambda: LatentSurrogate(NET, model="linear", random_state=0),
    "masks": lambda: RelevanceMasker(NET, n_masks=8, random_state=0),
    "simplex": lambda: SimplExImportance(NET),
    "influence": lambda: InfluenceImportance(Autoencoder(), loss=rebuilt, damping=0.1),
    "tracin": lambda: TracInImportance(Autoencoder(), loss=rebuilt),
    "tracin, classes": lambda: TracInImportance(NET, loss=cross_entropy, parameters="all"),
    "dknn": lambda: DKNNImportance(NET, n_neighbors=3),
    "dknn, dense": lambda: DKNNImportance(NET),
}


@pytest.fixture
def small_is_large(monkeypatch):
    monkeypatch.setattr("sklexplain.utils._rows._LARGE", 1000)
    monkeypatch.setattr("sklexplain.utils._rows._BLOCK", 200)


def dense(values):
    return values.toarray() if hasattr(values, "toarray") else values


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", MAKE)
def test_rows_are_read_and_cast_a_few_at_a_time(kind, monkeypatch):
    monkeypatch.setattr("sklexplain.anomalies._references._AT_ONCE", 64)
    monkeypatch.setattr("sklexplain.surrogates._latent._READ_AT_ONCE", 200)
    monkeypatch.setattr("sklexplain.examples._gradient_pass._BLOCK_BYTES", 1000)
    monkeypatch.setattr("sklexplain.examples._gradients._ROWS", 64)
    explainer = MAKE[kind]().fit(TRAIN, LABELS).set_params(batch_size=32)
    expected = dense(explainer.transform(X))
    monkeypatch.setattr("sklexplain.utils._rows._LARGE", 1000)
    monkeypatch.setattr("sklexplain.utils._rows._BLOCK", 200)
    np.testing.assert_array_equal(dense(explainer.transform(X)), expected)
    stored = Stored(X)
    np.testing.assert_array_equal(dense(explainer.transform(stored)), expected)
    assert max(stored.read) <= 64
    assert len(X) <= sum(stored.read) <= 6 * len(X)  # looked through, and again where it is used
    # One that needs no cast is not read at once either.
    single = Stored(X.astype(np.float32))
    expected = dense(explainer.transform(X.astype(np.float32)))
    np.testing.assert_array_equal(dense(explainer.transform(single)), expected)
    assert max(single.read) <= 64


@pytest.mark.parametrize("baseline", ["reconstruction", "neighbors"])
def test_what_is_said_of_samples_here_and_there(baseline, monkeypatch):
    """Those that miss their sum most are explained once more, the worst first."""
    network = Autoencoder()
    with torch.no_grad():
        network.encoder[0].weight.mul_(5)
    explainer = AnomalyAttributor(network, method_params={"n_steps": 1}, baseline=baseline)
    explainer.set_params(batch_size=32, random_state=0).fit(TRAIN)
    with pytest.warns(ConvergenceWarning) as before:
        expected = explainer.transform(X)
    monkeypatch.setattr("sklexplain.anomalies._references._AT_ONCE", 64)
    monkeypatch.setattr("sklexplain.utils._rows._LARGE", 1000)
    monkeypatch.setattr("sklexplain.utils._rows._BLOCK", 200)
    with pytest.warns(ConvergenceWarning) as after:
        found = explainer.transform(Stored(X))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert [str(w.message) for w in after] == [str(w.message) for w in before]


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("kind", ["saliency", "anomaly", "dknn", "surrogate", "tracin"])
def test_numbers_that_torch_lacks(kind):
    explainer = MAKE[kind]().fit(TRAIN)
    expected, found = (dense(explainer.transform(X.astype(t))) for t in (float, np.longdouble))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("small_is_large")
def test_a_float64_path_reads_stored_samples_by_rows():
    dknn = DKNNImportance(PCA(2), n_neighbors=3, batch_size=32).fit(TRAIN)
    stored = Stored(X)
    assert abs(dknn.transform(stored) - dknn.transform(X)).max() == 0
    assert max(stored.read) <= 40


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.ConvergenceWarning")
def test_no_copy_of_all_samples(monkeypatch):
    monkeypatch.setattr("sklexplain.utils._rows._BLOCK", 2**14)
    many = RNG.normal(size=(220_000, 5))
    for kind in ("saliency", "cladec", "embedding", "surrogate", "masks"):
        explainer = MAKE[kind]().fit(TRAIN).set_params(batch_size=8192)
        tracemalloc.start()
        try:
            out = explainer.transform(many)
            rise = tracemalloc.get_traced_memory()[1] - out.nbytes
        finally:
            tracemalloc.stop()
        assert rise < many.nbytes / 4  # in float32 a copy has half


def test_no_batch_is_held_on_to():
    explainer = MAKE["embedding"]().fit(TRAIN).set_params(batch_size=64)
    explainer.transform(X)

    def n_tensors():
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    before = n_tensors()
    explainer.transform(X)
    assert n_tensors() <= before


# -- what has to be said is said


BAD = {
    "nan": ((7, 2), np.nan),
    "infinity": ((430, 0), -np.inf),
    "too large": ((300, 4), 1e39),
}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_errors_are_those_of_small_samples(kind, stored, monkeypatch):
    explainer = MAKE["saliency"]().fit(TRAIN)
    bad = X.copy()
    place, value = BAD[kind]
    bad[place] = value
    with pytest.raises(ValueError, match=r"NaN|infinity|too large") as expected:
        explainer.transform(bad)
    monkeypatch.setattr("sklexplain.utils._rows._LARGE", 1000)
    with pytest.raises(ValueError, match=r"NaN|infinity|too large") as found:
        explainer.transform(Stored(bad) if stored else bad)
    assert str(found.value) == str(expected.value)
    with pytest.raises(ValueError, match="features"):
        explainer.transform(Stored(X[:, :4]) if stored else X[:, :4])


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("stored", [False, True])
def test_a_column_that_a_cast_levels_is_named(stored):
    explainer = MAKE["saliency"]().fit(TRAIN)
    level = X.copy()
    level[:, 3] = 1e8 + RNG.normal(size=len(X))
    with pytest.warns(DataConversionWarning, match="Column 3 varies too little"):
        explainer.transform(Stored(level) if stored else level)
    level[:, 3] = 1e8  # a constant has nothing to lose
    explainer.transform(Stored(level) if stored else level)


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "bool", "float16", ">f8"])
def test_other_numbers(dtype):
    explainer = MAKE["saliency"]().fit(TRAIN)
    whole = RNG.integers(0, 2 if dtype == "bool" else 100, size=X.shape)
    expected = explainer.transform(whole.astype(np.float64))
    np.testing.assert_array_equal(explainer.transform(whole.astype(dtype)), expected)
    np.testing.assert_array_equal(explainer.transform(Stored(whole.astype(dtype))), expected)


@pytest.mark.usefixtures("small_is_large")
def test_functions_of_users_are_given_arrays():
    given = []

    def zeros(rows):
        given.append(type(rows))
        return np.zeros_like(rows)

    explainer = LabelFreeAttributor(NET, baseline=zeros, method_params={"n_steps": 50}).fit(TRAIN)
    explainer.transform(Stored(X))
    assert set(given) == {np.ndarray}


# -- rows


@pytest.mark.parametrize("wrap", [lambda x: x, Stored])
def test_rows_are_those_of_an_array(wrap):
    rows, expected = Rows(wrap(X), np.float32), X.astype(np.float32)
    assert (len(rows), rows.shape, rows.ndim, rows.dtype) == (431, (431, 5), 2, np.float32)
    mask = np.arange(431) % 100 == 3
    for index in (
        *(3, slice(10, 20), slice(None, None, 50), np.array([5, 6, 7]), np.array([9, 2, 2, 400])),
        *(np.array([-1, 0]), [4, 1], mask, np.array([], dtype=int)),
    ):
        np.testing.assert_array_equal(rows[index], expected[index])
        assert rows[index].dtype == np.float32
    np.testing.assert_array_equal(np.asarray(rows), expected)
    np.testing.assert_array_equal(rows.mean(axis=0), expected.mean(axis=0))
    with pytest.raises(AttributeError):
        rows.no_such_thing  # noqa: B018


def test_parts_are_written_into_one_array():
    written = Written(5, np.float64)
    written.add(np.ones((2, 3), dtype=np.float32))
    written.add(np.full((3, 3), 2, dtype=np.float32))
    assert written.array.dtype == np.float64
    assert written.array.tolist() == [[1] * 3] * 2 + [[2] * 3] * 3
