"""Explanations by two worker processes, of which one is killed: nothing is lost."""

import os
import pickle
import time

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import DKNNImportance, LabelFreeAttributor

da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("SKLEXPLAIN_FUZZ") != "many",
        reason="starts processes, which takes long; SKLEXPLAIN_FUZZ=many runs it",
    ),
    # What dask says of the process that is gone.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def client():
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def rows():
    return np.random.RandomState(3).normal(size=(4000, 4))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.mark.parametrize("is_large", [False, True])
def test_a_killed_process_loses_nothing(client, net, rows, is_large, monkeypatch):
    explainer = LabelFreeAttributor(net, method="shapley_sampling", random_state=0).fit(rows)
    expected = explainer.transform(rows)
    client.wait_for_workers(2)
    if is_large:
        monkeypatch.setattr("sklexplain.utils._dask._LARGE", 1000)
    lazy = explainer.transform(da.from_array(rows, chunks=(100, 4)))
    # The network is in the graph once at most, however many blocks there are.
    size = len(pickle.dumps(lazy.__dask_graph__())) - rows.nbytes
    assert size < 10_000 + (not is_large) * len(pickle.dumps(explainer))
    future = client.compute(lazy)
    time.sleep(0.3)
    os.kill(next(iter(client.run(os.getpid).values())), 9)
    assert future.status == "pending"
    np.testing.assert_array_equal(future.result(), expected)


def test_a_corpus_on_two_processes(client, net, rows):
    client.wait_for_workers(2)
    lazy_X = da.from_array(rows, chunks=(500, 4))
    blocks = DKNNImportance(net, n_neighbors=5, random_state=0).fit(lazy_X)
    memory = DKNNImportance(net, n_neighbors=5, random_state=0).fit(rows)
    expected = memory.transform(rows[:50]).toarray()
    np.testing.assert_allclose(blocks.transform(rows[:50]).toarray(), expected, rtol=1e-6)
    lazy = blocks.transform(lazy_X).compute()
    np.testing.assert_allclose(lazy[:50].toarray(), expected, rtol=1e-6)
