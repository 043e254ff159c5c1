"""What of Python there is on Windows is enough: see windows/sitecustomize.py, which stands in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

HERE = Path(__file__).resolve().parent
TINY = [
    "mel.n_fft=256", "mel.win_length=256", "mel.hop_length=64", "mel.n_mels=16",
    "generator.name=cnn", "generator.channels=[4]", "training.batch_size=2",
    "training.crop_seconds=0.25", "training.warmup_steps=2", "training.validate_every=2",
    "training.checkpoint_every=1", "training.data_workers=1", "data.valid_clips=2",
    "data.valid_seconds=0.2",
]


def windows(*arguments: object, folder: Path, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(HERE / "windows"),
                   "PYTHONIOENCODING": "cp1252", "GAN_DENOISE_CACHE": str(folder / "cache")}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, env=environment,
                          capture_output=True, **options)


@pytest.fixture(scope="module")
def material(folders, tmp_path_factory):
    """A folder with `noisy` and `clean`, and the command line as it is on Windows."""
    folder = tmp_path_factory.mktemp("windows")
    for side in ("noisy", "clean"):
        shutil.copytree(folders / side, folder / side)

    def command(*arguments, **options):
        done = windows("-m", "gan_denoise.cli", *arguments, folder=folder, **options)
        assert done.returncode == 0, done.stderr.decode("cp1252")
        return done.stdout

    return folder, command


def test_the_stand_in_takes_away_what_windows_lacks(tmp_path):
    code = (
        "import os, sys\n"
        "sys.modules['gan_denoise.part'] = part = type(sys)('gan_denoise.part')\n"
        "exec('import os, signal', part.__dict__)\n"
        "assert not hasattr(part.os, 'fork') and not hasattr(part.signal, 'SIGHUP')\n"
        "assert part.os.getpid() == os.getpid() and part.os.name == 'nt'\n"
        "try:\n    exec('import fcntl', part.__dict__)\n"
        "except ImportError:\n    print('no fcntl')\n"
        "file = open('a', 'w')\nopen('b', 'w').close()\n"
        "for change in (lambda: os.unlink('a'), lambda: os.replace('b', 'a'),\n"
        "               lambda: os.rename('b', 'a'), lambda: os.open('.', os.O_RDONLY)):\n"
        "    try:\n        change()\n"
        "    except OSError as error:\n        print(type(error).__name__)\n")
    shown = windows("-c", code, folder=tmp_path, text=True)
    assert shown.stdout.split("\n")[:-1] == [
        "no fcntl", "PermissionError", "PermissionError", "FileExistsError", "PermissionError"
    ], shown.stderr


def test_every_module_without_training_is_imported(tmp_path):
    code = ("import importlib, pkgutil, gan_denoise\n"
            "for found in pkgutil.walk_packages(gan_denoise.__path__, 'gan_denoise.'):\n"
            "    if found.name.split('.')[1] in ('core', 'audio', 'config', 'dsp', 'metrics', "
            "'inference', 'cli', 'pages') and not found.name.endswith('__main__') "
            "and 'keras' not in found.name:\n"
            "        importlib.import_module(found.name)\n")
    shown = windows("-c", code, folder=tmp_path, text=True)
    assert shown.returncode == 0, shown.stderr


def test_a_folder_is_denoised_again_and_over_what_is_there(material):
    folder, command = material
    for more in ((), (), ("--overwrite",)):
        command("denoise", "noisy", "-o", "out", "-j", 2, *more, "--report", "out.csv")
    noisy = sorted(path.relative_to(folder / "noisy") for path in folder.glob("noisy/*/*.wav"))
    assert sorted(path.relative_to(folder / "out") for path in folder.glob("out/*/*.wav")) == noisy
    assert not [path for path in folder.rglob("*") if path.suffix in (".part", ".tmp")]
    for name in noisy:
        before, after = (soundfile.read(folder / side / name)[0] for side in ("noisy", "out"))
        assert np.std(after) < np.std(before)


def test_a_pipe_keeps_its_bytes(material):
    folder, command = material
    recording = folder / "noisy" / "speaker0" / "0.wav"
    piped = command("denoise", "-", "-o", "-", input=recording.read_bytes())
    command("denoise", recording, "-o", "single.wav")
    (folder / "piped.wav").write_bytes(piped)
    np.testing.assert_array_equal(*(soundfile.read(folder / f"{name}.wav")[0]
                                    for name in ("piped", "single")))


def test_a_training_starts_goes_on_and_is_exported(material):
    """States, the best one, settings, curves and the model replace what was there."""
    folder, command = material
    for steps in (2, 4):
        shown = command("pretrain", "--run", "run", "data.noisy=noisy", "data.clean=clean", *TINY,
                        f"training.steps={steps}")
        assert f"run: {steps} steps".encode() in shown
    for _ in range(2):
        command("export", "run", "-o", "model")
    command("denoise", "noisy", "-o", "own", "-m", "model")
    assert len(list(folder.glob("own/*/*.wav"))) == 8


def test_workers_talk_and_are_interrupted():
    """Their output comes as messages, Ctrl-C as an event."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         HERE / "training" / "test_worker_processes.py"],
        env={**os.environ, "PYTHONPATH": str(HERE / "windows")}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
