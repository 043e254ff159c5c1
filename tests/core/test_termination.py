"""SIGTERM and SIGHUP remove what is temporary, and say what ended the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gan_denoise.core.termination import Terminated, ending_signal, raised_as_exceptions

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
CODE = """
import os, signal, sys
from pathlib import Path
from gan_denoise.cli import app
from gan_denoise.core.atomic_files import new_folder
from gan_denoise.inference import model

_, out, number = sys.argv

def find_model(name):
    with new_folder(Path(out)):
        os.kill(os.getpid(), int(number))
        print("went on")
    raise model.ModelError("the end")

model.find_model = find_model
sys.argv = ["gan-denoise", "info", "calm"]
app.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_cleanly(number: signal.Signals, tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path / "out"), str(int(number))],
                          capture_output=True, text=True)
    assert done.returncode == 128 + number
    assert (done.stdout, done.stderr) == ("", f"error: stopped by {number.name}\n")
    assert os.listdir(tmp_path) == []


def test_nohup_is_heeded(tmp_path: Path):
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    done = subprocess.run([sys.executable, "-c", ignoring + CODE, str(tmp_path / "out"),
                           str(int(signal.SIGHUP))], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "went on\n")


def test_the_signal_is_known_behind_other_interruptions():
    with raised_as_exceptions(), pytest.raises(KeyboardInterrupt) as caught:  # noqa: PT012
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError
        except Terminated:
            raise KeyboardInterrupt from None
    assert ending_signal(caught.value) == signal.SIGTERM
    assert ending_signal(KeyboardInterrupt()) == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
