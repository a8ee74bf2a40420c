import pytest
import torch

from sklexplain.utils import ThreadModes


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are made, but not laid out and written: for tests that read the words only."""
    figure = pytest.importorskip("matplotlib.figure")
    layout = pytest.importorskip("matplotlib.layout_engine")
    monkeypatch.setattr(layout.ConstrainedLayoutEngine, "execute", lambda self, figure: None)
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, out, **kwargs: out.write(b"<svg/>"))


@pytest.fixture(autouse=True)
def _leaves_no_modes():
    """Keep what an interrupt left in the thread from the tests that come after it.

    The tests of interrupts count what is left; some of it shows only when garbage is collected.
    """
    before = ThreadModes.now()
    yield
    before.put_back()
    torch.set_grad_enabled(True)
