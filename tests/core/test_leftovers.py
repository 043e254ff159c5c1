"""What a killed process leaves is removed by the next one; what is in use stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gan_denoise.core import file_locks
from gan_denoise.core.atomic_files import new_folder, write_atomically
from gan_denoise.core.leftovers import temporary_file, temporary_folder

pytestmark = pytest.mark.skipif(not file_locks.CAN_LOCK, reason="nothing is removed without locks")


def killed_amid(code: str, *arguments: object) -> None:
    """Run Python code that kills its own process by `kill()`."""
    begin = ("import os, signal, sys\nfrom pathlib import Path\n"
             "from gan_denoise.core.atomic_files import *\n"
             "from gan_denoise.core.leftovers import *\n"
             "kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n")
    done = subprocess.run([sys.executable, "-c", begin + code, *map(str, arguments)])
    assert done.returncode == -signal.SIGKILL


def test_the_next_write_removes_the_file_of_a_killed_one(tmp_path: Path):
    killed_amid("write_atomically(Path(sys.argv[1]), kill)", tmp_path / "scores.csv")
    assert len(os.listdir(tmp_path)) == 1
    (tmp_path / ".scores.csv.original").write_text("of the user")
    write_atomically(tmp_path / "scores.csv", lambda file: file.write(b"whole"))
    assert sorted(os.listdir(tmp_path)) == [".scores.csv.original", "scores.csv"]


def test_the_next_folder_removes_that_of_a_killed_one(tmp_path: Path):
    killed_amid("with new_folder(Path(sys.argv[1])) as build: kill()", tmp_path / "model")
    assert len(os.listdir(tmp_path)) == 1
    with new_folder(tmp_path / "model") as build:
        (build / "part").touch()
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_gets_its_name_back_where_a_kill_fell_amid_its_replacement(tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "part").write_text("former")
    killed_amid("first = Path(sys.argv[1])\n"
                "rename, os.rename = os.rename, lambda a, b: kill() if b == first else rename(a, b)"
                "\nwith new_folder(first, lambda _: True) as build: (build / 'part').touch()",
                tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "model", lambda _: True):
        raise ZeroDivisionError
    assert (tmp_path / "model" / "part").read_text() == "former"
    assert os.listdir(tmp_path) == ["model"]


def test_what_is_in_use_stays(tmp_path: Path):
    with temporary_file(tmp_path / "a") as (handle, first), temporary_file(tmp_path / "a") as other:
        os.close(handle)
        os.close(other[0])
        assert first.exists()
        assert other[1].exists()
    with temporary_folder("gan-denoise-", tmp_path) as first, \
            temporary_folder("gan-denoise-", tmp_path) as second:
        assert first.exists()
        assert second.exists()
    assert os.listdir(tmp_path) == []
