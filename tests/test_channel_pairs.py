"""scripts/channel_pairs.py: both sides of a pair pass through what a channel's name says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from gan_denoise import metrics

RATE = 16000
SCRIPT = Path(__file__).parents[1] / "scripts" / "channel_pairs.py"


@pytest.fixture(scope="module")
def behind(tmp_path_factory) -> Path:
    """Three pairs behind the channels, at 0, 10 and 30 dB, of which the script takes the second."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    clean = 0.1 * signal.sawtooth(2 * np.pi * 150 * time) * (1 + np.sin(2 * np.pi * 3 * time))
    for snr in (0, 10, 30):
        noise = rng.standard_normal(len(clean))
        noise *= np.std(clean) / np.std(noise) / 10 ** (snr / 20)
        for side, audio in (("clean", clean), ("noisy", clean + noise)):
            (folder / "set" / side).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / "set" / side / f"{snr}.wav", audio, RATE, subtype="FLOAT")
    (folder / "rooms").mkdir()
    two_paths = [0.0] * 5 + [0.8] + [0.0] * 99 + [0.4]
    soundfile.write(folder / "rooms" / "two-paths.wav", two_paths, RATE, subtype="FLOAT")
    done = subprocess.run([sys.executable, SCRIPT, folder / "set", "--out", folder / "behind",
                           "--rooms", folder / "rooms"], check=True, capture_output=True, text=True)
    assert "1 of 3 pairs" in done.stdout
    return folder / "behind"


def _read(behind: Path, channel: str, side: str) -> np.ndarray:
    audio, rate = soundfile.read(behind / channel / side / "set-10.wav")
    assert rate == RATE
    assert len(audio) == 2 * RATE
    return audio


@pytest.mark.parametrize(("channel", "low", "high"), [
    ("telephone", 300, 3400), ("low-cut", 300, 8000), ("low-pass-2000", 0, 2000),
    ("low-pass-3000", 0, 3000), ("low-pass-4000", 0, 4000), ("gsm", 0, 4000)])
def test_nothing_is_left_beyond_the_band(behind, channel, low, high):
    for side in ("noisy", "clean"):
        hertz, before = signal.welch(_read(behind, "clean", "clean"), RATE, nperseg=1024)
        _, power = signal.welch(_read(behind, channel, side), RATE, nperseg=1024)
        beyond = (hertz < 0.6 * low) | (hertz > 1.2 * high)
        within = (hertz > 1.1 * low) & (hertz < 0.8 * high)
        assert power[beyond].sum() < 1e-3 * power.sum()
        assert power[within].sum() > 0.5 * before[within].sum()


@pytest.mark.parametrize("channel", ["gsm", "mp3", "opus"])
def test_a_codec_loses_something_of_each_side_and_keeps_their_time(behind, channel):
    for side in ("noisy", "clean"):
        audio = _read(behind, channel, side)
        source = _read(behind, "clean", "clean")
        assert 1.0 < metrics.si_sdr(source, audio) < 40.0
        assert abs(metrics.lag(source, audio, RATE)) <= 2 / RATE


def test_clean_input_is_the_clean_recording_twice(behind):
    sides = [_read(behind, "clean", side) for side in ("noisy", "clean")]
    np.testing.assert_array_equal(*sides)
    assert [folder.name for folder in sorted(behind.iterdir())] == sorted([
        "telephone", "low-cut", "low-pass-2000", "low-pass-3000", "low-pass-4000", "gsm", "mp3",
        "opus", "clean", "reverberant", "rumble"])


def test_a_room_adds_its_reflections_to_the_clean_recording_without_delay(behind):
    reverberant, dry = (_read(behind, "reverberant", side) for side in ("noisy", "clean"))
    np.testing.assert_array_equal(dry, _read(behind, "clean", "clean"))
    heard = 0.8 * dry
    heard[100:] += 0.4 * dry[:-100]
    np.testing.assert_allclose(reverberant, heard, atol=1e-6)


def test_rumble_is_ten_decibels_above_speech_and_below_it_in_pitch(behind):
    noisy, clean = (_read(behind, "rumble", side) for side in ("noisy", "clean"))
    added = noisy - clean  # with the noise of the pair, 20 dB below
    hertz, power = signal.welch(added, RATE, nperseg=8192)
    assert power[hertz < 60].sum() > 0.97 * power.sum()
    assert 10 * np.log10(np.mean(added**2) / np.mean(clean**2)) == pytest.approx(10.0, abs=0.1)
