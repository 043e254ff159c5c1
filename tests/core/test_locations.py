"""Locations: paths stay paths, addresses act as paths, and errors name the address."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from gan_denoise.core.locations import (
    LocationError,
    OutsideError,
    beside,
    inside,
    is_remote,
    location,
    reaching,
    stamp,
    subfolders,
    walk_address,
)


@pytest.fixture
def store():
    files = fsspec.filesystem("memory")
    for name in ("b/x.wav", "a/y.wav", "a-b/z.wav", ".hidden/h.wav", "w.wav"):
        files.pipe(f"/locations/{name}", name.encode())
    yield files
    files.rm("/locations", recursive=True)


def test_paths_are_paths_and_addresses_act_like_them(store, tmp_path):
    assert location(str(tmp_path)) == tmp_path
    assert location(tmp_path) is tmp_path
    assert isinstance(location("C:/speech"), Path)
    root = location("memory://locations/")
    assert is_remote(root)
    assert not is_remote(tmp_path)
    assert location(root) is root
    file = root / "a" / "y.wav"
    assert (str(file), file.stem, file.is_file()) == ("memory://locations/a/y.wav", "y", True)
    assert file.relative_to(root).as_posix() == "a/y.wav"
    assert file.read_bytes() == b"a/y.wav"


def test_a_tree_is_listed_in_the_order_of_its_folders(store):
    root = location("memory://locations")
    names = [file.relative_to(root).as_posix() for file in walk_address(root)]
    assert names == ["a/y.wav", "a-b/z.wav", "b/x.wav", "w.wav"]
    assert [file.name for file in walk_address(root, recursive=False)] == ["w.wav"]
    assert [folder.name for folder in subfolders(root)] == ["a", "a-b", "b"]


def test_a_stamp_changes_with_the_file(store, tmp_path):
    for file in (location("memory://locations/w.wav"), tmp_path / "w.wav"):
        file.write_bytes(b"one")
        first = stamp(file)
        assert first[0] == 3
        assert stamp(file) == first
        file.write_bytes(b"other")
        assert stamp(file) != first


def test_a_manifest_names_neighbours_and_addresses(tmp_path):
    assert beside(tmp_path, "noisy/a.wav") == tmp_path / "noisy/a.wav"
    assert str(beside(tmp_path, "memory://b/a.wav")) == "memory://b/a.wav"
    assert str(beside(location("memory://b"), "a.wav")) == "memory://b/a.wav"


def test_what_an_index_names_is_in_its_folder(tmp_path):
    assert inside(tmp_path, "train/a..b.npz") == tmp_path / "train" / "a..b.npz"
    for name in ("..", "../a", "a/../../b", "/etc/passwd", "", ".", "s3://b/a", "a\0b"):
        with pytest.raises(OutsideError, match="not in that folder"):
            inside(tmp_path, name)


def test_errors_name_the_address_and_local_ones_stay_what_they_are(store, tmp_path):
    with pytest.raises(LocationError, match=r"memory://locations/none\.wav: no such file"):
        stamp(location("memory://locations/none.wav"))
    with pytest.raises(LocationError, match="is a folder"):
        stamp(location("memory://locations/a"))
    with pytest.raises(LocationError, match=r"b/x: cannot be reached \(no credentials\)"), \
            reaching(location("memory://b/x")):
        raise RuntimeError("no credentials")
    with pytest.raises(FileNotFoundError):
        stamp(tmp_path / "none")
    with pytest.raises(LocationError, match="nowhere"):
        location("nowhere://b/x")


def test_without_the_packages_the_way_to_them_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(LocationError, match=r"pip install 'gan-denoise\[cluster\]'"):
        location("s3://bucket/speech")


def test_paths_alone_load_nothing_for_addresses():
    code = ("import sys\nfrom gan_denoise.audio import find_audio\n"
            "from gan_denoise.core.fetched_files import local_copy\n"
            "from gan_denoise.core.locations import location\nlocation('x')\n"
            "print({'fsspec', 'upath', 's3fs'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
