"""Recordings at addresses: found, read and refused as those of this machine are."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest

from gan_denoise import audio
from gan_denoise.audio import AudioError, find_audio
from gan_denoise.audio.file_search import search
from gan_denoise.audio.writer import write
from gan_denoise.core.locations import location

RATE = 16000


@pytest.fixture
def both(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """The same tree on this machine and at an address."""
    monkeypatch.setenv("GAN_DENOISE_CACHE", str(tmp_path / "cache"))
    here = tmp_path / "speech"
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (2, RATE)).astype("f4")
    for name in ("anna/a.wav", "anna/b.flac", "bert/c.ogg", "d.mp3", "e.m4a", ".old/f.wav"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        write(here / name, sound, RATE)
    (here / "anna" / "notes.txt").write_text("no audio")
    (here / "anna" / "late.wav.part").write_bytes(b"")
    (here / "anna" / "types.ts").write_text("const a = 1")
    store = fsspec.filesystem("memory")
    store.put(str(here) + "/", "/audio/speech/", recursive=True)
    yield here, location("memory://audio/speech")
    store.rm("/audio", recursive=True)


def test_the_same_files_are_found(both):
    for recursive in (True, False):
        here, there = (
            {reason: [path.relative_to(root).as_posix() for path in paths]
             for reason, paths in ({"": found.files} | found.passed_over).items()}
            for root in both for found in [search(root, recursive)])
        assert here == there
    assert find_audio(both[1] / "d.mp3") == [both[1] / "d.mp3"]


def test_the_same_samples_and_properties_are_read(both):
    for here, there in zip(*map(find_audio, both), strict=True):
        np.testing.assert_array_equal(audio.read(here)[0], audio.read(str(there))[0])
        ours, theirs = audio.probe(here), audio.probe(there)
        assert theirs.path == there
        assert vars(ours) | {"path": there} == vars(theirs)


def test_errors_name_the_address(both):
    (both[1] / "text.wav").write_text("no audio")
    (both[1] / "empty.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"^memory://audio/speech/text\.wav: not readable as"):
        audio.read(both[1] / "text.wav")
    with pytest.raises(AudioError, match=r"^memory://audio/speech/empty\.wav: .*\(0 bytes\)"):
        audio.read(both[1] / "empty.wav")
    with pytest.raises(AudioError, match=r"^memory://audio/speech/none\.wav: no such file"):
        audio.read(both[1] / "none.wav")
    with pytest.raises(AudioError, match=r"^memory://audio/none: no such file or folder"):
        find_audio("memory://audio/none")
