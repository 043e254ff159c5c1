"""Copies of remote files: fetched once, anew when they change, in bounded space."""

from __future__ import annotations

import os

import fsspec
import numpy as np
import pytest

from gan_denoise.core import fetched_files
from gan_denoise.core.fetched_files import FetchError, RemoteBlocks, fetched_folder, local_copy
from gan_denoise.core.locations import LocationError, location


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_DENOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetched_files, "_since_cleaning", float("inf"))
    files = fsspec.filesystem("memory")
    files.pipe("/fetched/a.wav", b"first")
    yield files
    files.rm("/fetched", recursive=True)


class _Counted:
    """Counts what is fetched of a file system."""

    def __init__(self, files, monkeypatch):
        self.fetched = []
        get, cat = files.get_file, files.cat_file
        monkeypatch.setattr(files, "get_file", lambda path, *rest: (
            self.fetched.append(path), get(path, *rest))[1])
        monkeypatch.setattr(files, "cat_file", lambda path, start, end: (
            self.fetched.append((start, end)), cat(path, start=start, end=end))[1])


def test_a_path_is_its_own_copy(tmp_path):
    assert local_copy(tmp_path / "any.wav") == tmp_path / "any.wav"


def test_a_file_is_fetched_once_and_again_when_it_changes(store, monkeypatch):
    counted = _Counted(location("memory://fetched").fs, monkeypatch)
    address = location("memory://fetched/a.wav")
    copy = local_copy(address)
    assert (copy.name, copy.read_bytes()) == ("a.wav", b"first")
    assert local_copy(address) == copy
    assert len(counted.fetched) == 1
    store.pipe("/fetched/a.wav", b"other")
    assert local_copy(address).read_bytes() == b"other"
    assert len(counted.fetched) == 2


def test_a_missing_file_leaves_nothing(store):
    with pytest.raises(LocationError, match=r"memory://fetched/b\.wav: no such file"):
        local_copy(location("memory://fetched/b.wav"))
    assert not fetched_folder().exists()


def test_only_the_blocks_that_are_read_are_fetched(store, monkeypatch):
    monkeypatch.setattr(fetched_files, "BLOCK", 1000)
    content = np.random.default_rng(0).integers(0, 256, 9500).astype(np.uint8)
    store.pipe("/fetched/large", content.tobytes())
    address = location("memory://fetched/large")
    counted = _Counted(address.fs, monkeypatch)
    blocks = RemoteBlocks(address)
    for start, stop in ((1500, 1600), (1999, 2001), (0, 4000), (9400, 9500), (3500, 3500)):
        np.testing.assert_array_equal(blocks.read(start, stop), content[start:stop])
    assert counted.fetched == [(1000, 2000), (2000, 3000), (0, 1000), (3000, 4000), (9000, 9500)]
    again = RemoteBlocks(address)  # as another process would open it
    np.testing.assert_array_equal(again.read(500, 3900), content[500:3900])
    assert len(counted.fetched) == 5


def test_what_was_used_longest_ago_goes_first(store, monkeypatch):
    monkeypatch.setenv("GAN_DENOISE_FETCHED_GB", "0.00005")  # 50,000 bytes
    for name in "abc":
        store.pipe(f"/fetched/{name}.wav", bytes(20_000))
    copies = {name: local_copy(location(f"memory://fetched/{name}.wav")) for name in "ab"}
    for age, name in ((1000, "b"), (2000, "a")):
        os.utime(copies[name].parent, (os.stat(copies[name]).st_mtime - age,) * 2)
    local_copy(location("memory://fetched/a.wav"))  # used again
    local_copy(location("memory://fetched/c.wav"))
    assert copies["a"].exists()
    assert not copies["b"].exists()


def test_a_bound_that_is_no_number(store, monkeypatch):
    monkeypatch.setenv("GAN_DENOISE_FETCHED_GB", "many")
    with pytest.raises(FetchError, match="'many' is no number"):
        local_copy(location("memory://fetched/a.wav"))
