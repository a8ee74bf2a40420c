import os
import signal
import time
import traceback
from unittest import SkipTest

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
    """Keep what an interrupt left in the thread from the tests that come after it.

    The tests of interrupts count what is left; some of it shows only when garbage is collected.
    """
    before = ThreadModes.now()
    yield
    before.put_back()
    torch.set_grad_enabled(True)


_MOST_SECONDS = 240  # of a test in a process of its own


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run tests of interrupts in a copy of the process.

    Ctrl-C at any moment can break what is not the library's: a lock of the test runner, a cache of
    torch. So it must not reach the process that runs the other tests.
    """
    if "check_interrupts" not in pyfuncitem.name or not hasattr(os, "fork"):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _in_the_child(lambda: pyfuncitem.obj(**{n: pyfuncitem.funcargs[n] for n in names}), writer)
    os.close(writer)
    started = time.monotonic()
    while not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(0.02)
        if time.monotonic() - started > _MOST_SECONDS:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail(f"it did not end within {_MOST_SECONDS} s")
    with os.fdopen(reader) as file:
        status, _, text = file.read().partition("\n")
    if status == "skipped":
        pytest.skip(text)
    if status != "passed":
        pytest.fail(text or "the process ended without a word", pytrace=False)
    return True


def _in_the_child(run, writer):
    """Run, write what came of it, and end the process without more ado."""
    try:
        run()
        said = "passed\n"
    except (SkipTest, pytest.skip.Exception) as error:
        said = f"skipped\n{error}"
    except BaseException:
        said = f"failed\n{traceback.format_exc()[-20_000:]}"
    os.write(writer, said.encode()[:60_000])
    os._exit(0)
