"""How many rows run at once: on a CPU as many as always, on a GPU what its memory holds."""

import pytest
import torch

from sklexplain.layers import _memory, fitting_rows, most_rows
from sklexplain.utils import in_blocks

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets how much memory a GPU has free."""

    def set_to(n_bytes):
        monkeypatch.setattr(_memory, "free_bytes", lambda device: n_bytes)

    return set_to


def test_on_a_cpu_as_many_as_are_asked_for():
    assert [most_rows(n, 10**12, CPU) for n in (1, 7, 10**6)] == [1, 7, 10**6]
    assert most_rows("auto", 10**12, CPU) == most_rows("auto", 1, CPU) == 1024


@pytest.mark.parametrize("n_bytes", [10**6, 10**9])
def test_on_a_gpu_as_many_as_fit_into_a_share_of_what_is_free(free, n_bytes):
    free(n_bytes)
    row_bytes = 1000
    rows = most_rows("auto", row_bytes, GPU)
    assert rows == n_bytes // 6 // row_bytes
    assert most_rows(rows + 1, row_bytes, GPU) == rows  # an integer caps, and no more
    assert most_rows(5, row_bytes, GPU) == 5
    assert most_rows("auto", 10 * n_bytes, GPU) == 1


def test_tensors_stay_below_what_cudnn_takes(free):
    free(10**12)
    for itemsize, size in ((2, 10), (4, 10), (8, 1000), (2, 10**6)):
        rows = most_rows("auto", itemsize * size, GPU)
        assert rows * size < 2**31
        assert fitting_rows(10**9, itemsize * size, GPU, at_least=3) * size < 2**31


def test_memory_that_cannot_be_asked_about(free):
    free(None)
    assert most_rows("auto", 2**20, torch.device("mps")) == 4095


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to ask")
def test_no_gpu_is_asked_where_there_is_none():
    assert _memory.free_bytes(GPU) is None


class Short:
    """A device that has room for so many rows, and counts what is tried."""

    def __init__(self, room):
        self.room, self.tried = room, []

    def __call__(self, part):
        n = part.stop - part.start
        self.tried.append(n)
        if n > self.room:
            raise torch.OutOfMemoryError
        return list(range(part.start, part.stop))


@pytest.mark.parametrize(
    "n, rows, room", [(10, 4, 10), (10, 4, 3), (10, 100, 1), (1, 1, 1), (0, 4, 9)]
)
def test_blocks_are_halved_until_they_fit_and_nothing_is_lost(n, rows, room):
    run = Short(room)
    parts = list(in_blocks(run, n, rows))
    assert sum((result for _, result in parts), []) == list(range(n))
    assert [row for part, _ in parts for row in range(part.start, part.stop)] == list(range(n))
    failed = [size for size in run.tried if size > room]
    assert len(failed) == len(set(failed))  # once a size


def test_memory_for_not_even_one_row():
    with pytest.raises(torch.OutOfMemoryError):
        list(in_blocks(Short(0), 10, 8))
    left, run = [3], Short(0)

    def shrink():
        left[0] -= 1
        run.room = int(left[0] == 0)
        return left[0] >= 0

    assert [rows for _, rows in in_blocks(run, 2, 1, shrink)] == [[0], [1]]


def test_other_errors_are_not_swallowed():
    def run(part):
        raise RuntimeError("no memory, but of another kind")

    with pytest.raises(RuntimeError, match="another kind"):
        list(in_blocks(run, 4, 2))
