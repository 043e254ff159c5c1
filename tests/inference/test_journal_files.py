"""Journals on a disk: lines of several writers, read on from where they were read to."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time

import pytest

from gan_denoise.core.file_locks import CAN_LOCK, lock_file
from gan_denoise.inference.journal_files import FOLDER, NAME, JournalFiles


def lines_of(files, **options):
    return [line for _, _, line in files.new_lines(**options)]


def free_handle():
    """The number that the next file gets: higher where one was left open."""
    handle = os.open(os.devnull, os.O_RDONLY)
    os.close(handle)
    return handle


def test_each_writer_has_a_file_and_all_are_read(tmp_path):
    own, first, second = (JournalFiles(tmp_path, name) for name in ("", "1-of-2", "2-of-2"))
    # The names of all versions: a folder goes on where it was left.
    assert own.path == tmp_path / ".gan-denoise-journal.jsonl"
    assert second.path == tmp_path / ".gan-denoise-journals" / "2-of-2.jsonl"
    for number, files in enumerate((second, own, first)):
        files.append(b"line %d\n" % number)
    (tmp_path / FOLDER / "notes.txt").write_bytes(b"of somebody else\n")
    expected = [(NAME, 1, b"line 1"), ("1-of-2.jsonl", 1, b"line 2"),
                ("2-of-2.jsonl", 1, b"line 0")]
    assert list(own.new_lines()) == expected
    assert lines_of(own) == []
    assert list(first.new_lines(own=True)) == expected[1:2]
    assert list(first.new_lines()) == [expected[0], expected[2]]


def test_lines_are_numbered_and_read_on_once_they_are_whole(tmp_path):
    files = JournalFiles(tmp_path, "")
    assert lines_of(files) == []  # there is no file yet
    files.append(b"a\n")
    files.append(b"\n")
    assert list(files.new_lines()) == [(NAME, 1, b"a"), (NAME, 2, b"")]
    with open(files.path, "ab") as torn:
        torn.write(b"b")
    assert lines_of(files) == []
    files.append(b"c\n")  # which begins a line of its own
    files.append(b"d\n")
    assert list(files.new_lines()) == [(NAME, 3, b"b"), (NAME, 4, b"c"), (NAME, 5, b"d")]


def test_a_file_in_place_of_the_folder_has_no_journals(tmp_path):
    (tmp_path / FOLDER).write_bytes(b"a file\n")
    files = JournalFiles(tmp_path, "")
    files.append(b"a\n")
    assert lines_of(files) == [b"a"]


def test_the_first_line_is_that_of_the_folders_own_journal(tmp_path):
    files = JournalFiles(tmp_path / "out", "1-of-2")
    files.append(b"of a shard\n")
    assert files.first_line() == b""
    files.write_first_line(b"first\n")
    files.write_first_line(b"second\n")
    assert files.first_line() == b"first\n"
    assert JournalFiles(tmp_path / "out", "").first_line() == b"first\n"


@pytest.mark.skipif(not CAN_LOCK, reason="the system has no locks of open files")
def test_a_line_waits_until_another_is_written(tmp_path):
    files = JournalFiles(tmp_path, "")
    files.append(b"a\n")
    writing = os.open(files.path, os.O_RDWR)
    assert lock_file(writing)
    waiting = threading.Thread(target=files.append, args=(b"b\n",))
    waiting.start()
    time.sleep(0.2)
    assert files.path.read_bytes() == b"a\n"
    os.close(writing)
    waiting.join(60)
    assert files.path.read_bytes() == b"a\nb\n"


def test_a_full_disk_is_an_error_and_tears_one_line(tmp_path, monkeypatch):
    files = JournalFiles(tmp_path, "")
    files.append(b"a\n")
    handle, write = free_handle(), os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, line: write(file, line[:3]))
        with pytest.raises(OSError, match=NAME) as error:
            files.append(b"torn\n")
    assert error.value.errno == errno.ENOSPC
    files.append(b"b\n")
    assert lines_of(files) == [b"a", b"tor", b"b"]
    assert free_handle() == handle


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_journal_is_as_open_to_others_as_the_user_has_it(tmp_path):
    before = os.umask(0o027)
    try:
        JournalFiles(tmp_path / "some", "").append(b"a\n")
        os.umask(0)
        JournalFiles(tmp_path / "all", "").append(b"a\n")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name / NAME).stat().st_mode) for name in ("some", "all")]
    assert modes == [0o640, 0o666]
