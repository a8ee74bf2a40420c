"""Modes that an interrupt leaves in place are counted and taken away."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from sklexplain.utils import ScopedMode, ThreadModes


def enter_function():
    TorchFunctionMode().__enter__()


def enter_transform():
    torch._C._functorch._vmap_increment_nesting(3, "error")


def enter_batched():
    torch._C._vmapmode_increment_nesting()


ENTER = {"function": enter_function, "vmap": enter_transform, "batched": enter_batched}


@pytest.mark.parametrize("n_times", [1, 2])
@pytest.mark.parametrize("name", ENTER)
def test_what_was_entered_is_taken_away(name, n_times):
    before = ThreadModes.now()
    assert before.put_back() == 0
    for _ in range(n_times):
        ENTER[name]()
    assert sum(ThreadModes.now()) == sum(before) + n_times
    assert before.put_back() == n_times
    assert ThreadModes.now() == before
    weight = torch.ones(2, requires_grad=True)
    weight.square().sum().backward()  # refused where a call in a batch is left open
    assert weight.grad.tolist() == [2, 2]


def test_modes_that_were_there_before_stay():
    with TorchFunctionMode():
        before = ThreadModes.now()
        enter_function()
        assert before.put_back() == 1
        assert ThreadModes.now() == before
    assert ThreadModes.now().n_functions == before.n_functions - 1


class Doubles(ScopedMode):
    def _instead(self, func, args, kwargs):
        return 2 * func(*args, **kwargs)


def test_a_mode_that_comes_back_after_its_end_does_nothing():
    x, mode = torch.ones(3), Doubles()
    with mode:
        inside = torch.sum(x)
    assert inside.tolist() == 6
    before = ThreadModes.now()
    torch.overrides._push_mode(mode)  # as torch does when garbage of an interrupt is collected
    assert float(torch.sum(x)) == 3
    assert before.put_back() == 1
    with mode:
        inside = torch.sum(x)
    assert inside.tolist() == 6
    mode.__enter__()
    assert before.put_back() == 1
    torch.overrides._push_mode(mode)
    assert float(torch.sum(x)) == 3
    assert before.put_back() == 1
