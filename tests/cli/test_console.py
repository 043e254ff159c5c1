"""Progress bars: drawn on a terminal, and nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from command_line import gan_denoise, write_recordings

from gan_denoise.audio.writer import write
from gan_denoise.data import synthetic_audio

pty = pytest.importorskip("pty")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Three recordings in `noisy`, the same in `clean`, and a noise."""
    root = tmp_path_factory.mktemp("material")
    write_recordings(root / "noisy")
    write_recordings(root / "clean", noise=0.0)
    write(root / "noise" / "hiss.wav", synthetic_audio.noise("white", 2.0, seed=0), 16000)
    return root


def on_a_terminal(*arguments) -> tuple[int, str]:
    """Run the command line with a terminal for stderr; return exit code and what it was sent."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "gan_denoise.cli", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave,
                               env={**os.environ, "TERM": "xterm", "COLUMNS": "100"})
    os.close(slave)
    drawn = b""
    while True:
        try:
            block = os.read(master, 4096)
        except OSError:  # Linux: the other end is closed
            break
        if not block:
            break
        drawn += block
    os.close(master)
    return process.wait(60), re.sub(r"\x1b\[[\d;]*m", "", drawn.decode())  # without colours


def command_of(verb, root, out):
    return {
        "check": ["check", root / "noisy"],
        "mix": ["mix", "--speech", root / "clean", "--noise", root / "noise", "--out", out],
        "evaluate": ["evaluate", "--noisy", root / "noisy", "--clean", root / "clean", "-j", 1],
        "denoise": ["denoise", root / "noisy", "-o", out],
    }[verb]


@pytest.mark.parametrize(("verb", "end"), [
    ("check", "3/3 files or pairs"), ("mix", "3/3 mixtures"), ("evaluate", "3/3 files"),
    ("denoise", "0:00:04 of 0:00:04 of audio"),
])  # fmt: skip
def test_a_bar_reaches_its_end_on_a_terminal_and_is_not_drawn_elsewhere(
    material, tmp_path, verb, end
):
    code, drawn = on_a_terminal(*command_of(verb, material, tmp_path / "one"))
    assert code in (0, 1)
    assert end in drawn
    assert drawn.endswith("\x1b[2K")  # the bar's line is cleared
    assert gan_denoise(*command_of(verb, material, tmp_path / "two")).stderr == ""
