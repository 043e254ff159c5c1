"""made_up_noise: every kind sounds, differs with the seed, and has the sound it is named after."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from gan_denoise.core.rng import random_stream
from gan_denoise.data import made_up_noise as noises

RATE, SAMPLES = 16000, 32000


def _flatness(audio: np.ndarray) -> float:
    """Geometric over arithmetic mean of the power spectrum: 1 for white noise, 0 for a tone."""
    power = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2 + 1e-12
    return float(np.exp(np.mean(np.log(power))) / np.mean(power))


@pytest.mark.parametrize("kind", noises.KINDS, ids=lambda kind: kind.__name__)
def test_a_kind_sounds_and_no_two_are_alike(kind):
    made = [kind(SAMPLES, RATE, random_stream(0, 0, n)) for n in range(8)]
    for audio in made:
        assert audio.shape == (SAMPLES,)
        assert np.isfinite(audio).all()
        assert np.sqrt(np.mean(audio**2)) > 1e-4
    again = kind(SAMPLES, RATE, random_stream(0, 0, 3))
    np.testing.assert_array_equal(again, made[3])
    for one, other in pairwise(made):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.9


def test_tonal_kinds_are_tonal_and_noisy_ones_are_not():
    def median(kind) -> float:
        return np.median([_flatness(kind(SAMPLES, RATE, random_stream(2, 0, n)))
                          for n in range(9)])

    assert max(median(noises._hum), median(noises._alarm)) < 0.02 < median(noises._clicks)


def test_hum_lies_on_multiples_of_the_mains():
    audio = noises._hum(SAMPLES, RATE, random_stream(0, 0, 0))
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(SAMPLES)))
    hertz = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    strongest = hertz[np.argsort(spectrum)[-3:]]
    assert min(np.abs(strongest / base - np.round(strongest / base)).max()
               for base in (50.0, 60.0)) < 0.1


def test_an_instrument_plays_its_notes():
    """The strongest of what is heard is a harmonic of its note, up to the 1 % of a vibrato."""
    for seed in range(12):
        audio = noises._instrument(SAMPLES, RATE, [440.0], 0.5, random_stream(0, 0, seed))
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(SAMPLES)))
        harmonic = np.argmax(spectrum) * RATE / SAMPLES / 440.0
        assert round(harmonic) >= 1
        assert harmonic == pytest.approx(round(harmonic), rel=0.015)


def test_rumble_ends_below_speech():
    below = []
    for seed in range(20):
        audio = noises.rumble(SAMPLES, RATE, random_stream(0, 0, seed))
        power = np.abs(np.fft.rfft(audio * np.hanning(SAMPLES))) ** 2
        hertz = np.fft.rfftfreq(SAMPLES, 1 / RATE)
        assert power[hertz > 250].sum() < 0.01 * power.sum()
        below.append(power[hertz < 20].sum() / power.sum())
    assert min(below) < 0.5 < 0.95 < max(below)  # from what is felt to what is heard


def test_any_kind_is_drawn_and_float32():
    made = [noises.made_up_noise(SAMPLES, RATE, random_stream(3, 0, n)) for n in range(20)]
    assert all(audio.dtype == np.float32 and np.isfinite(audio).all() for audio in made)
    assert len({round(_flatness(audio), 6) for audio in made}) == 20
