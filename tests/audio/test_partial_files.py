"""Temporary files: they become the output at once, or leave nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gan_denoise.audio.partial_files import PartialFile, remove_partial_files
from gan_denoise.core import file_locks


def test_it_takes_the_name_of_its_target(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.wav"
    part = PartialFile(target)
    part.create()
    part.path.write_bytes(b"audio")
    assert part.path.parent == target.parent
    assert not target.exists()
    part.publish()
    part.discard()
    assert [path.name for path in target.parent.iterdir()] == ["a.wav"]
    assert target.read_bytes() == b"audio"


def test_a_discarded_one_leaves_nothing_and_what_was_there_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    target.write_bytes(b"before")
    part = PartialFile(target)
    part.create()
    part.path.write_bytes(b"half of")
    part.discard()
    part.discard()
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"before"


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    target = tmp_path / ("a" * 251 + ".wav")
    part = PartialFile(target)
    part.create()
    part.path.touch()
    part.publish()
    part.discard()
    assert target.exists()


@pytest.mark.skipif(not file_locks.CAN_LOCK, reason="the system has no locks")
def test_left_overs_are_removed_and_what_is_written_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".0123456789abcdef.part"
    other = tmp_path / ".mine.part"
    for path in (left, other):
        path.touch()
    part = PartialFile(tmp_path / "a.wav")
    part.create()
    remove_partial_files(tmp_path, older_than=3600)
    assert left.exists()
    os.utime(left, (time.time() - 7200,) * 2)
    remove_partial_files(tmp_path, older_than=3600)
    assert not left.exists()
    remove_partial_files(tmp_path)
    assert part.path.exists()
    assert other.exists()
    part.discard()
    remove_partial_files(tmp_path / "no such folder")
