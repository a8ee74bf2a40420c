"""An interrupt in torch's own code leaves the thread as it was."""

import sys

import numpy as np
import pytest
import torch
from torch import _vmap_internals, nn

from sklexplain import VarianceScorer
from sklexplain.utils import ThreadModes

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def interrupted(call):
    """Call with an interrupt between the start of a batched backward and what ends it."""
    came = False

    def trace(frame, event, arg):
        nonlocal came
        if frame.f_code.co_filename != _vmap_internals.__file__:
            return None
        if event == "line" and "vmap_level" in frame.f_locals and not came:
            came = True
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        sys.settrace(before)
    assert came


def test_batched_backward():
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval()
    scorer = VarianceScorer(net, layers=["0", "2"]).fit(X)
    expected, before = scorer.transform(X), ThreadModes.now()
    interrupted(lambda: scorer.transform(X))
    assert ThreadModes.now() == before
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    np.testing.assert_array_equal(scorer.transform(X), expected)
