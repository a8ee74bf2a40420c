import pytest


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are made and laid out, but not written: for tests that read the words only."""
    figure = pytest.importorskip("matplotlib.figure")
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, out, **kwargs: out.write(b"<svg/>"))
