"""The recording that comes with the package: what it is, and that the shipped model helps it."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from gan_denoise import Enhancer, examples
from gan_denoise.metrics import si_sdr, snr

LARGEST = 150_000  # bytes


@pytest.fixture(scope="module")
def pair():
    """The noisy and the clean recording."""
    noisy, rate = soundfile.read(examples.noisy_speech())
    clean, clean_rate = soundfile.read(examples.clean_speech())
    assert rate == clean_rate == 16000
    return noisy, clean


@pytest.mark.parametrize("path", [examples.noisy_speech(), examples.clean_speech()])
def test_it_is_a_short_mono_recording_in_a_small_file(path):
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.format) == (16000, 1, "FLAC")
    assert 4 <= info.duration <= 6
    assert path.stat().st_size < LARGEST


def test_both_are_aligned_and_5_db_apart(pair):
    noisy, clean = pair
    assert np.max(np.abs(noisy)) < 1  # nothing is clipped
    assert snr(clean, noisy) == pytest.approx(5.0, abs=0.05)


def test_the_shipped_model_removes_most_of_the_noise(pair):
    noisy, clean = pair
    estimate = Enhancer.load().enhance(noisy, 16000)
    assert si_sdr(clean, estimate) > si_sdr(clean, noisy) + 4


def test_whose_recordings_they_are_is_told_beside_them():
    notice = (examples.FOLDER / "NOTICE.md").read_text(encoding="utf-8")
    for words in ("CMU AN4", "Copyright (c) 1991-2005 Carnegie Mellon University",
                  "Redistributions in binary form", "Falcet", "CC0"):
        assert words in notice
