"""The command line as a whole: help, imports, errors in a line, names, missing packages."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from command_line import gan_denoise, refused, run_main, write_recordings
from conftest import RATE

HEAVY = ("tensorflow", "keras", "librosa", "torch", "matplotlib", "sklearn", "optuna", "wandb")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("recordings"))


def test_denoise_and_info_import_nothing_heavy(recordings, tmp_path):
    code = (
        "import sys\n"
        "from gan_denoise.cli import main\n"
        "for arguments in (['denoise', sys.argv[1], '-o', sys.argv[2]], ['info']):\n"
        "    sys.argv[1:] = []\n"
        "    try:\n"
        "        main(*arguments)\n"
        "    except SystemExit as done:\n"
        "        assert not done.code, done.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    code = code.replace("['denoise', sys.argv[1], '-o', sys.argv[2]]",
                        repr(["denoise", str(recordings), "-o", str(tmp_path / "out")]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(list((tmp_path / "out").rglob("[!.]*.*"))) == 3


def test_a_file_where_a_folder_should_be_made_is_one_line(recordings, monkeypatch, capfd):
    for verb in (["mix", "--speech", recordings, "--noise", recordings],
                 ["evaluate", "--noisy", recordings, "--clean", recordings / "sub"]):
        line = refused(monkeypatch, capfd, *verb, "--out", recordings / "a.wav" / "out")
        assert str(recordings) in line
        assert "Errno" not in line


def test_the_console_takes_any_name(tmp_path):
    folder = tmp_path / "in"
    (folder / "[").mkdir(parents=True)
    (folder / "[" / "red][bold]:smile:.wav").write_text("this is no recording")
    (folder / "line\nbreak\x1b[31m.wav").write_text("this is no recording")
    soundfile.write(folder / "録音.wav", np.zeros(1000), RATE)
    with open(os.fsencode(folder) + b"/bad\xff.wav", "wb") as file:
        file.write(b"this is no recording")
    for environment in ({}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        done = gan_denoise("denoise", folder, "-o", tmp_path / "out", "--dry-run", **environment)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert len(done.stdout.splitlines()) == 5
        assert "[/red][bold]:smile:.wav" in done.stdout
        assert "line\\nbreak\\x1b[31m.wav" in done.stdout
        assert "bad\\udcff.wav" in done.stdout
    done = gan_denoise("denoise", folder, "-o", tmp_path / "out")
    assert "[/red][bold]:smile:.wav" in done.stderr
    assert len(done.stderr.splitlines()) == 3


@pytest.mark.parametrize("verb", [["pretrain", "--run", "r"], ["export", "r", "-o", "m"], ["demo"],
                                  ["tune", "-c", "tune-example", "--study", "s"]])
def test_training_without_its_packages_says_what_to_install(verb, monkeypatch, capfd):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name == "tensorflow" else find_spec(name))
    code, _, errors = run_main(monkeypatch, capfd, *verb)
    assert code == 2
    assert errors == (f"error: {verb[0]} needs tensorflow: pip install 'gan-denoise[train]', or "
                      "'gan-denoise[train-gpu]' on Linux with an NVIDIA GPU\n")


@pytest.mark.parametrize("verb", [
    ("report", "scores"), ("analyze", "scores", "-o", "study"),
    ("evaluate", "--noisy", "a", "--clean", "b", "--out", "scores"),
])
def test_pages_without_their_packages_say_so_before_the_work(verb, monkeypatch, capfd):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name == "matplotlib" else find_spec(name))
    code, _, errors = run_main(monkeypatch, capfd, *verb)
    assert code == 2
    assert "needs matplotlib: pip install" in errors
    assert verb[0] in errors
