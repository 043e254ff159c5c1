"""channel: bands lose what they should, codecs keep time and level, clipping cuts the peaks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from gan_denoise.core.rng import random_stream
from gan_denoise.data import channel

RATE = 16000


def _speech_like(seconds: float = 2.0) -> np.ndarray:
    """Noise with the long-term spectrum of speech and syllables of a quarter of a second."""
    rng = np.random.default_rng(0)
    samples = round(seconds * RATE)
    coloured = signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal(samples))
    syllables = 0.55 - 0.45 * np.cos(2 * np.pi * 4 * np.arange(samples) / RATE)
    audio = coloured * syllables
    return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


def _snr(clean: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(clean**2) / np.sum((other - clean) ** 2)))


def test_a_band_limit_takes_the_edges_and_keeps_the_middle_in_time():
    clean = _speech_like()
    heard = [channel.band_limit(np.stack([clean, 2 * clean]), RATE, random_stream(0, 0, n))
             for n in range(40)]
    hertz, of_clean = signal.welch(clean, RATE, nperseg=1024)
    cuts = []
    for noisy, target in heard:
        np.testing.assert_allclose(target, 2 * noisy, rtol=1e-3, atol=1e-5)  # both alike
        change = 10 * np.log10(signal.welch(noisy, RATE, nperseg=1024)[1] / of_clean)
        assert np.abs(change[(hertz > 700) & (hertz < 1500)]).max() < 2.0
        lag = np.argmax(signal.correlate(noisy, clean, "same")) - len(clean) // 2
        assert lag == 0
        cuts.append((change[hertz < 60].mean() < -3, change[hertz > 7500].mean() < -3))
    low, high = np.sum(cuts, axis=0)
    assert min(low, high) > 20  # a telephone's band loses both
    assert np.mean([any(cut) for cut in cuts]) > 0.9  # the softest low cut takes less


@pytest.mark.parametrize("codec", channel.CODECS, ids=lambda codec: codec["subtype"])
def test_a_codec_keeps_time_length_and_level(codec, monkeypatch):
    monkeypatch.setattr(channel, "CODECS", (codec,))
    pair = np.stack([_speech_like(), 0.25 * _speech_like()[::-1]])
    coded = channel.code(pair, RATE, random_stream(0, 0, 0))
    assert (coded.shape, coded.dtype) == (pair.shape, np.float32)
    for before, after in zip(pair, coded, strict=True):
        lag = np.argmax(signal.correlate(after, before, "same")) - len(before) // 2
        assert abs(lag) <= 2
        assert abs(20 * np.log10(np.std(after) / np.std(before))) < 2.0
        assert 3.0 < _snr(before, after) < 60.0  # lossy, and still the same recording


def test_clipping_is_at_a_share_of_the_peak():
    noisy = _speech_like()
    for n in range(10):
        clipped = channel.clip(noisy, random_stream(1, 0, n))
        top = np.abs(clipped).max()
        low, high = channel.CLIP_SHARE
        assert low <= top / np.abs(noisy).max() <= high
        inside = np.abs(noisy) < top
        np.testing.assert_array_equal(clipped[inside], noisy[inside])


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_speed_moves_every_frequency_alike(speed):
    samples = 32000
    needed = channel.source_length(samples, speed)
    time = np.arange(needed) / RATE
    tones = (np.sin(2 * np.pi * 500 * time) + np.sin(2 * np.pi * 3000 * time)).astype(np.float32)
    made = channel.change_speed(tones, speed, samples)
    assert made.shape == (samples,)
    spectrum = np.abs(np.fft.rfft(made * np.hanning(samples)))
    exact = needed / channel.source_length(samples, 1.0)
    for hertz in (500, 3000):
        around = int(hertz * exact * samples / RATE)
        peak = around - 50 + int(np.argmax(spectrum[around - 50:around + 50]))
        assert peak * RATE / samples == pytest.approx(hertz * exact, abs=1.0)
    assert exact == pytest.approx(speed, rel=0.05)
    middle = slice(4000, -4000)
    assert np.std(made[middle]) == pytest.approx(1.0, rel=0.02)
