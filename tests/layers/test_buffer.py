import os
import tempfile

import numpy as np
import pytest
import torch

from sklexplain.layers import activation_buffer

X = torch.arange(4000.0).reshape(1000, 4)


def buffered(**options):
    return activation_buffer(lambda x: x + 1, X, 100, **options)


def test_in_a_file_as_in_memory():
    in_file = buffered(max_bytes=10)
    assert isinstance(in_file, np.memmap)
    np.testing.assert_array_equal(in_file, buffered())


def test_a_full_disk_is_an_error_before_anything_is_mapped(monkeypatch):
    def full(fd, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"16\.0 kB.*No space left.*free\).*TMPDIR") as raised:
        buffered(max_bytes=10)
    assert raised.value.errno == 28


def test_the_space_of_the_file_is_taken(monkeypatch):
    taken = []
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: taken.append(args[1:]), raising=False)
    buffered(max_bytes=10)
    assert taken == [(0, 16_000)]
    monkeypatch.delattr(os, "posix_fallocate")  # as on Windows
    np.testing.assert_array_equal(buffered(max_bytes=10), X.numpy() + 1)


def test_a_folder_for_temporary_files_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="gone.*TMPDIR"):
        buffered(max_bytes=10)
