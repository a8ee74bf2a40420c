"""Progress bars."""

from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from sklexplain.utils import progress


def through(shown):
    with progress(3, shown, "maps") as bar:
        bar.update(2)
        bar.update(1)
    return shown


def test_shown_if_wanted(capsys):
    through(False)
    assert capsys.readouterr().err == ""
    through(1)
    assert "maps: 100%" in capsys.readouterr().err


def test_a_lock_that_an_interrupt_left_stops_no_other_thread():
    with tqdm.get_lock(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(through, 0).result(timeout=10) == 0
