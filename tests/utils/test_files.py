import os
import stat

import pytest

from sklexplain.utils import replacing, write_file


def test_text_is_written_as_utf8_and_the_mode_of_the_file_kept(tmp_path):
    path = tmp_path / "page.html"
    write_file(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    path.chmod(0o640)
    write_file(path, "anew")
    assert path.read_text() == "anew" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["page.html"]


def test_what_has_no_bytes_is_written_out(tmp_path):
    write_file(tmp_path / "page", "bad\udcff.csv")
    assert (tmp_path / "page").read_text() == r"bad\udcff.csv"


def test_a_file_stays_if_the_new_one_cannot_be_written(tmp_path):
    resource = pytest.importorskip("resource")
    import signal

    path = tmp_path / "page"
    write_file(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # a full disk
    try:
        with pytest.raises(
            OSError, match=r"page \(5,000 bytes\) cannot be written: File too large"
        ):
            write_file(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["page"]


def test_a_file_stays_if_its_writer_fails_or_is_interrupted(tmp_path):
    path = tmp_path / "page"
    write_file(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["page"]


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path):
    target, link = tmp_path / "data.csv", tmp_path / "page.html"
    target.write_text("data")
    link.symlink_to(target)
    write_file(link, "page")
    assert target.read_text() == "data" and link.read_text() == "page" and not link.is_symlink()


def test_places_where_no_file_can_be(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_file(tmp_path, "x")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_file(tmp_path / "a" / "b", "x")
    write_file(os.devnull, "x")
    assert not os.path.isfile(os.devnull)
