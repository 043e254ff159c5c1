"""Filters: rooms stay aligned, random filters keep to their range, coloured noise is normal."""

from __future__ import annotations

import numpy as np
import pytest

from gan_denoise.core.rng import random_stream
from gan_denoise.data.augment import RandomFilter, reverberate

RATE = 16000


class TestRoom:
    def test_target_is_aligned_with_the_dry_speech(self):
        speech = np.random.default_rng(0).uniform(-0.3, 0.3, RATE).astype("f4")
        response = np.zeros(6000, "f4")
        response[1000] = 1.0  # the direct path is late
        response[1300], response[4000] = 0.5, 0.4
        heard, target = reverberate(speech, response, early=800)
        for wet in (heard, target):
            size = 2 * len(speech)
            lags = np.fft.irfft(np.fft.rfft(wet, size) * np.conj(np.fft.rfft(speech, size)))
            assert np.argmax(lags) == 0
        expected = speech.copy()
        expected[300:] += 0.5 * speech[:-300]
        np.testing.assert_allclose(target, expected, atol=1e-5)
        expected[3000:] += 0.4 * speech[:-3000]
        np.testing.assert_allclose(heard, expected, atol=1e-5)


class TestFilter:
    def test_boosts_stay_in_range_without_delay_and_wrap(self):
        shape = RandomFilter(16384, RATE, 6.0)  # already a fast length
        impulse = np.zeros(16384, "f4")
        impulse[0] = 1.0
        for seed in range(20):
            out = shape.equalise(impulse, random_stream(seed, 0, 0))
            assert np.argmax(np.abs(out)) == 0
            assert np.abs(out[-8000:]).max() < 1e-3  # nothing came around the end
        middle = np.roll(impulse, 8000)
        response = np.abs(np.fft.rfft(shape.equalise(middle, random_stream(1, 0, 0))))
        assert 20 * np.log10(response.max()) < 6.3
        assert 20 * np.log10(response.min()) > -6.3
        assert np.ptp(20 * np.log10(response)) > 1.0

    def test_coloured_noise_is_normal(self):
        shape = RandomFilter(64000, RATE, 0.0)
        made = shape.coloured(random_stream(0, 0, 0))
        made = (made - made.mean()) / made.std()
        assert np.mean(made**4) == pytest.approx(3.0, abs=0.4)
