"""Locks: one holder at a time, and none after it has ended."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from gan_denoise.core import file_locks
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.file_locks import CAN_LOCK, lock_file, locked_folder

TRY = ("import os, sys; from gan_denoise.core.file_locks import lock_file\n"
       "print(lock_file(os.open(sys.argv[1], os.O_RDWR), wait=False))")


def held_by_others(path: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", TRY, path], capture_output=True, text=True)
    return {"True\n": False, "False\n": True}[done.stdout]


@pytest.mark.skipif(not CAN_LOCK, reason="the system has no locks")
def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with open(path, "w") as file:
        assert lock_file(file.fileno(), wait=False)
        assert held_by_others(path)
    assert not held_by_others(path)  # the process that asked before has ended, too


def test_a_file_that_cannot_be_locked_is_no_error() -> None:
    assert not lock_file(10**6)


class Msvcrt:
    """Windows' locks of bytes, made of the locks of this system."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.flock, self.how = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB

    def locking(self, handle: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        try:
            self.flock(handle, self.how)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None


@pytest.mark.skipif(not CAN_LOCK, reason="the system has no locks")
@pytest.mark.parametrize("windows", [False, True])
def test_a_folder_has_one_holder(tmp_path: Path, monkeypatch, windows) -> None:
    if windows:
        monkeypatch.setattr(file_locks, "msvcrt", Msvcrt())
        monkeypatch.setattr(file_locks, "fcntl", None)
        monkeypatch.setattr(file_locks, "_HELD", PermissionError)
    busy = GanDenoiseError("another is at it")
    with (locked_folder(tmp_path / "run", busy), pytest.raises(GanDenoiseError, match="another"),
          locked_folder(tmp_path / "run", busy)):
        pass
    with locked_folder(tmp_path / "run", busy):
        pass
