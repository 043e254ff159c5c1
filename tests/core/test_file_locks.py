"""Locks: one holder at a time, and none after it has ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gan_denoise.core.file_locks import CAN_LOCK, lock_file

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
