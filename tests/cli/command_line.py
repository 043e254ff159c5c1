"""The command line in a process of its own, or in this one; recordings to give it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import RATE

from gan_denoise.cli import main
from gan_denoise.data import synthetic_audio


def gan_denoise(*arguments, **environment):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gan_denoise.cli", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **environment},
    )


def run_main(monkeypatch, capfd, *arguments) -> tuple[int, str, str]:
    """Run the command line in this process; return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["gan-denoise"])
    with pytest.raises(SystemExit) as ended:
        main(*map(str, arguments))
    return ended.value.code, *capfd.readouterr()


def refused(monkeypatch, capfd, *arguments) -> str:
    """Return the one line of an error that ends the command line, in this process, with code 2."""
    return refusal(subprocess.CompletedProcess(
        arguments, *run_main(monkeypatch, capfd, *arguments)))


def refusal(done) -> str:
    """Return the one line of an error that ended with exit code 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def write_recordings(folder: Path, noise: float = 0.02) -> Path:
    """Write three recordings of speech, with noise of a level, into a tree; return its root."""
    for number, name in enumerate(("a.wav", "sub/b.flac", "sub/c d.wav")):
        speech = synthetic_audio.voice(number, 1.2, seed=number)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fan = synthetic_audio.noise("fan", 1.2, number)
        soundfile.write(path, 0.5 * speech + noise * fan, RATE)
    return folder
