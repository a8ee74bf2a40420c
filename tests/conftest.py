import pytest
import torch

from sklexplain.utils import ThreadModes


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are made and laid out, but not written: for tests that read the words only."""
    figure = pytest.importorskip("matplotlib.figure")
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, out, **kwargs: out.write(b"<svg/>"))


@pytest.fixture(autouse=True)
def _leaves_no_modes():
    """Fail the test that leaves one of torch's modes in place, not all that come after it."""
    before = ThreadModes.now()
    yield
    n_left, gradients = before.put_back(), torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    assert not n_left, "a mode of torch was left in place"
    assert gradients, "gradients were left switched off"
