"""SIGTERM and SIGHUP remove what is temporary, and say what ended the command."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gan_denoise.audio.metadata import text_fields
from gan_denoise.audio.sndfile import FileSlice, PartOfFile
from gan_denoise.core.termination import (
    Terminated,
    ending_signal,
    held_back,
    raised_as_exceptions,
)

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_for_the_end_of_the_block(number):
    before, went_on = signal.getsignal(number), []
    with raised_as_exceptions():
        with pytest.raises(KeyboardInterrupt) as caught, held_back():  # noqa: PT012
            with held_back():
                os.kill(os.getpid(), number)
                went_on.append(1)
            went_on.append(2)
        assert went_on == [1, 2]
        assert ending_signal(caught.value) == number
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so_in_the_block():
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with held_back():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, former)


@pytest.mark.parametrize("method", ["seek", "tell", "readinto"])
def test_an_interruption_amid_a_callback_of_libsndfile_is_not_lost(tmp_path, monkeypatch, capfd,
                                                                   method):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1000), 16000)
    original, interrupted = getattr(FileSlice, method), []

    def interrupt(*arguments):
        if not interrupted:
            interrupted.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(FileSlice, method, interrupt)
    with (pytest.raises(KeyboardInterrupt),  # noqa: PT012
          PartOfFile(path, 0, path.stat().st_size) as file):
        file.seek(10)
        file.read(100)
    assert interrupted
    assert capfd.readouterr() == ("", "")


def test_an_interruption_as_tags_are_read_is_not_lost(tmp_path, monkeypatch, capfd):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1000), 16000)
    original, interrupted = soundfile.SoundFile, []

    class Interrupting(io.RawIOBase):
        def __init__(self, file):
            self.file = file

        def tell(self):
            if not interrupted:
                interrupted.append(True)
                os.kill(os.getpid(), signal.SIGINT)
            return self.file.tell()

        def seek(self, *place):
            return self.file.seek(*place)

        def readinto(self, buffer):
            return self.file.readinto(buffer)

    monkeypatch.setattr(soundfile, "SoundFile", lambda file: original(Interrupting(file)))
    with pytest.raises(KeyboardInterrupt):
        text_fields(path)
    assert interrupted
    assert capfd.readouterr() == ("", "")
