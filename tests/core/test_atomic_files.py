"""Files and folders that appear whole or not at all, and keep what was there."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from gan_denoise.core.atomic_files import (
    check_new_folder,
    check_writable,
    new_folder,
    write_atomically,
)
from gan_denoise.core.errors import GanDenoiseError, OutputError


# ---- Files -------------------------------------------------------------------------------------
def test_a_written_file_is_whole_and_readable_by_others(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    write_atomically(path, lambda file: file.write(b"first"))
    write_atomically(path, lambda file: file.write(b"second"))
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == ["file"]


def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fails_half_way(file):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError) as refused:
        write_atomically(path, fails_half_way)
    assert str(path) in str(refused.value)
    assert "No space left" in str(refused.value)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_written_is_told_before_and_after(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path / "file" / "page", "cannot be written"),
                         (tmp_path / "file" / "deep" / "page", "cannot be written"),
                         (tmp_path, "is a folder")):
        with pytest.raises(OutputError, match=rf"{path}: {reason}.*; give"):
            check_writable(path)
    with pytest.raises(OutputError, match=f"{tmp_path / 'file' / 'page'}: cannot be written"):
        write_atomically(tmp_path / "file" / "page", lambda file: file.write(b""))
    check_writable(tmp_path / "new" / "folder" / "page")
    assert os.listdir(tmp_path) == ["file"]


def test_any_other_error_leaves_nothing_behind_either(tmp_path):
    def fails(file):
        file.write(b"half of it")
        raise KeyError("a mistake")

    with pytest.raises(KeyError):
        write_atomically(tmp_path / "file", fails)
    assert not os.listdir(tmp_path)


# ---- Folders -----------------------------------------------------------------------------------
@pytest.mark.parametrize("there", [False, True])
def test_a_folder_appears_when_all_of_it_is_written(tmp_path, there):
    out = tmp_path / "deep" / "out"
    if there:
        out.mkdir(parents=True)
    with new_folder(out) as build:
        (build / "sub").mkdir()
        (build / "sub" / "file").write_text("content")
        assert out.exists() == there
    assert (out / "sub" / "file").read_text() == "content"
    assert os.listdir(out.parent) == ["out"]
    (tmp_path / "plain").mkdir()
    assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_error_leaves_no_folder_and_what_was_there(tmp_path):
    def fails(replace):
        with new_folder(tmp_path / "out", replace) as build:
            (build / "file").touch()
            raise KeyError("a mistake")

    with pytest.raises(KeyError):
        fails(lambda out: False)
    assert not os.listdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(KeyError):
        fails(lambda out: True)
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["old"]


@pytest.mark.parametrize("kind", ["file", "full folder", "link"])
def test_what_is_there_is_replaced_only_where_that_is_allowed(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.touch()
    elif kind == "full folder":
        out.mkdir()
        (out / "old").touch()
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match=f"{out}: is there already; give another folder"):
        check_new_folder(out)
    with pytest.raises(OutputError, match="is there already"), new_folder(out):
        raise AssertionError("the work was begun")
    with new_folder(out, replace=lambda there: there == out) as build:
        (build / "new").touch()
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == ["new"]


def test_the_first_of_two_writers_is_kept(tmp_path):
    out = tmp_path / "out"

    def second():
        with new_folder(out) as build:
            (build / "second").touch()
            with new_folder(out) as other:
                (other / "first").touch()

    with pytest.raises(OutputError, match="is there already"):
        second()
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == ["first"]


# ---- Errors ------------------------------------------------------------------------------------
def test_an_error_is_one_line_of_reason_and_way_out():
    error = OutputError("a.wav: is full", "make room")
    assert isinstance(error, GanDenoiseError)
    assert (error.reason, error.way_out) == ("a.wav: is full", "make room")
    assert str(error) == "a.wav: is full; make room"
    assert str(OutputError("a.wav: is full")) == "a.wav: is full"
