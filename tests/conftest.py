import gc
import importlib
import os
import random
import sys
import warnings

import pytest

# What other packages say of themselves while they are imported is attributed to whoever imports
# them, and a warning at a line of ours is an error: so they are imported once, quietly, before.
OTHERS = [
    *(
        "captum.attr",
        "dask",
        "hypothesis",
        "jinja2",
        "joblib",
        "matplotlib.figure",
        "numpy.testing",
    ),
    *("pandas", "polars", "pyarrow", "safetensors.torch", "scipy.integrate", "scipy.stats"),
    *("sklearn.utils.estimator_checks", "sklearn.utils._test_common.instance_generator"),
    *("skorch.callbacks", "skorch.helper", "skops.io", "torch.nn.utils.prune", "tqdm"),
    *("torch.nn.utils.parametrizations", "torch.utils.data", "torchvision"),
]


def import_quietly(names):
    """Import what is installed, whatever it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            try:
                importlib.import_module(name)
            except ImportError:  # the tests that need it are skipped
                pass


def pytest_configure(config):
    """Get ready to collect, in the processes that run tests: the one that hands them out waits."""
    hands_out = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if not hands_out:
        gc.disable()  # next to nothing of what is made while tests are collected is garbage
        import_quietly(OTHERS)


def pytest_collection_finish(session):
    """Keep what was collected out of every look for garbage, which would go through all of it."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def draw_nothing(monkeypatch):
    """Pictures are made, but not laid out and written, for as long as the patch lasts."""
    figure = pytest.importorskip("matplotlib.figure")
    layout = pytest.importorskip("matplotlib.layout_engine")
    monkeypatch.setattr(layout.ConstrainedLayoutEngine, "execute", lambda self, figure: None)
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, out, **kwargs: out.write(b"<svg/>"))


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are not drawn: for tests that read the words only."""
    draw_nothing(monkeypatch)


@pytest.fixture(autouse=True)
def _same_draws():
    """Draw alike in every run what a test leaves unseeded, whatever tests came before it.

    With another TEST_SEED every test still has to pass.
    """
    import numpy
    import torch

    seed = int(os.environ.get("TEST_SEED", "0"))
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(autouse=True)
def _leaves_no_figures():
    """Close what was drawn: of 20 open figures on, pyplot warns, in whichever test that is."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


@pytest.fixture(autouse=True)
def _leaves_no_modes():
    """Keep what an interrupt left in the thread from the tests that come after it.

    The tests of interrupts count what is left; some of it shows only when garbage is collected.
    """
    import torch

    from sklexplain.utils import ThreadModes

    before = ThreadModes.now()
    yield
    before.put_back()
    torch.set_grad_enabled(True)
