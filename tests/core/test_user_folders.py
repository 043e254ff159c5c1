"""No home, or one that cannot be written: files of no run go to the temporary folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from conftest import RATE

from gan_denoise.audio import AudioError
from gan_denoise.audio.writer import write
from gan_denoise.core import user_folders
from gan_denoise.data.corpus import build_corpus

VARIABLES = ("GAN_DENOISE_CACHE", "XDG_CACHE_HOME", *user_folders.LIBRARIES)


@pytest.fixture
def plain(monkeypatch, tmp_path):
    """No variables, a home in `home`, and the temporary folder in `tmp`."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def no_home(monkeypatch):
    """As where HOME is not set and the user has no entry."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser",
                        lambda path: os.fspath(path).replace("~", os.environ["HOME"], 1)
                        if "HOME" in os.environ else path)


def read_only(monkeypatch, folder):
    """As where a folder cannot be written; these tests may run as root, who can."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not (
        mode & os.W_OK and Path(path).is_relative_to(folder)) and access(path, mode))


def temporary(root):
    return root / "tmp" / f"gan_denoise-{os.getuid()}"


def test_variables_come_before_the_home(plain, monkeypatch):
    assert user_folders.cache_folder() == plain / "home" / ".cache" / "gan_denoise"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert user_folders.cache_folder() == Path("/x/gan_denoise")
    monkeypatch.setenv("GAN_DENOISE_CACHE", "/own")
    assert user_folders.cache_folder() == Path("/own")
    assert not list((plain / "tmp").iterdir())


def test_the_place_is_that_of_the_operating_system(plain, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_path",
                        lambda name, appauthor: plain / "home" / "Library" / "Caches" / name)
    assert user_folders.cache_folder() == plain / "home" / "Library" / "Caches" / "gan_denoise"


@pytest.mark.parametrize("why", ["none", "read-only", "missing"])
def test_without_a_home_there_is_the_temporary_folder(plain, monkeypatch, why):
    if why == "none":
        no_home(monkeypatch)
    elif why == "read-only":
        read_only(monkeypatch, plain / "home")
    else:
        monkeypatch.setenv("HOME", str(plain / "none" / "me"))
        read_only(monkeypatch, plain)
    folder = user_folders.cache_folder()
    assert folder == temporary(plain) / "gan_denoise"
    assert stat.S_IMODE(temporary(plain).stat().st_mode) == 0o700  # private recordings
    write(plain / "speech" / "a.wav", np.full(800, 0.1), RATE)
    assert len(build_corpus([plain / "speech"], RATE)) == 1
    assert len(list(folder.iterdir())) == 1


def test_a_folder_of_somebody_else_is_not_taken(plain, monkeypatch):
    no_home(monkeypatch)
    (plain / "elsewhere").mkdir()
    temporary(plain).symlink_to(plain / "elsewhere")
    folder = user_folders.cache_folder()
    assert not folder.resolve().is_relative_to(plain / "elsewhere")
    assert folder.is_relative_to(plain / "tmp")


def test_libraries_are_told_only_where_the_home_is_of_no_use(plain, monkeypatch):
    user_folders.settle_libraries()
    assert not set(user_folders.LIBRARIES) & set(os.environ)
    assert os.environ["HOME"] == str(plain / "home")
    for name in (*user_folders.LIBRARIES, "HOME"):  # taken back at the end
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    no_home(monkeypatch)
    monkeypatch.setenv("KERAS_HOME", "/mine")
    user_folders.settle_libraries()
    assert os.environ["KERAS_HOME"] == "/mine"
    assert os.environ["MPLCONFIGDIR"] == str(temporary(plain) / "matplotlib")
    assert os.environ["HOME"] == str(temporary(plain))
    assert user_folders.cache_folder() == temporary(plain) / "gan_denoise"


@pytest.mark.parametrize(("cache", "way"), [
    (None, "GAN_DENOISE_CACHE to another folder, or data.cache where there are settings"),
    ("given", "set data.cache to another folder"),
])
def test_a_cache_that_cannot_be_written_says_what_to_set(plain, monkeypatch, cache, way):
    write(plain / "speech" / "a.wav", np.full(800, 0.1), RATE)
    (plain / "file").write_text("no folder")
    monkeypatch.setenv("GAN_DENOISE_CACHE", str(plain / "file" / "cache"))
    given = None if cache is None else plain / "file" / "given"
    with pytest.raises(AudioError, match=rf"the decoded audio was not written .*{way}"):
        build_corpus([plain / "speech"], RATE, given)


def test_a_verb_runs_without_a_home(tmp_path):
    """In a process of its own: librosa, Matplotlib and Numba look for one when imported."""
    code = ("import os, pathlib\n"
            "os.path.expanduser = lambda path: os.fspath(path).replace(\n"
            "    '~', os.environ.get('HOME', '~'), 1)\n"
            "from gan_denoise.core.user_folders import settle_libraries\n"
            "settle_libraries()\n"
            "import librosa.filters, matplotlib.font_manager\n"
            "assert pathlib.Path.home() != pathlib.Path('~')\n")
    environment = {name: value for name, value in os.environ.items()
                   if name not in (*VARIABLES, "HOME")} | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path,
                          capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "~").exists()
