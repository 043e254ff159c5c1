"""Filters: rooms stay aligned, random filters keep to their range, coloured noise is normal."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gan_denoise.core.rng import random_stream
from gan_denoise.data.augment import SLOPES, RandomFilter, fast_length, reverberate

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


    def test_a_response_that_is_longer_than_the_speech_is_cut(self):
        speech = np.random.default_rng(0).uniform(-0.3, 0.3, 1000).astype("f4")
        response = np.zeros(9000, "f4")
        response[[500, 600, 1501]] = -1.0, 0.5, 0.25  # the last one comes after the end
        heard, target = reverberate(speech, response, early=50)
        np.testing.assert_allclose(target, -speech, atol=1e-6)
        np.testing.assert_allclose(heard, -speech + 0.5 * np.r_[np.zeros(100), speech[:-100]],
                                   atol=1e-6)


class TestFilter:
    def test_the_curve_is_monotone_between_knots_an_octave_apart(self):
        """The highest knot is at half the sample rate, the lowest of seven at 125 Hz."""
        shape = RandomFilter(16384, RATE, 12.0)
        impulse = np.zeros(16384, "f4")
        impulse[8000] = 1.0
        hertz = np.fft.rfftfreq(16384, 1 / RATE)
        extremes = set()
        for seed in range(20):
            out = shape.equalise(impulse, random_stream(seed, 0, 0))
            decibels = 20 * np.log10(np.abs(np.fft.rfft(out)))
            edges = [0.0, *(8000 / 2**octave for octave in range(6, -1, -1))]
            for low, high in itertools.pairwise(edges):
                steps = np.diff(decibels[(hertz >= 1.05 * low) & (hertz <= 0.95 * high)])
                assert np.all(steps > -0.02) or np.all(steps < 0.02)
                extremes.add((high, np.sign(np.sum(steps))))
            assert np.ptp(decibels[hertz < 110]) < 1.0  # no knot below
            assert np.abs(decibels[(hertz > 20) & (hertz < 7900)]).max() < 12.1
        assert {(high, sign) for high in edges[2:] for sign in (-1, 1)} <= extremes

    def test_the_knots_are_independent_and_as_likely_anywhere_in_the_range(self):
        """Seven, at 125 Hz to 8 kHz; between two of them goes the smooth step 3 x^2 - 2 x^3."""
        shape = RandomFilter(2048, RATE, 12.0)
        impulse = np.zeros(2048, "f4")
        impulse[1024] = 1.0
        octaves = np.arange(0, 6.01, 0.25)
        place = 125 * 2**octaves / RATE * 2560  # in bins of a transform that is long enough
        gains = np.array([
            np.interp(place, np.arange(1281), 20 * np.log10(np.abs(np.fft.rfft(
                shape.equalise(impulse, random_stream(seed, 0, 0)), 2560))))
            for seed in range(1000)])
        knots = gains[:, ::4]
        assert 11.9 < np.abs(knots).max() < 12.1
        np.testing.assert_allclose(knots.mean(0), 0.0, atol=0.8)
        # The variance of a uniform distribution of width 24 is 48.
        np.testing.assert_allclose(np.cov(knots.T), 48 * np.eye(7), atol=6.0)
        for quarter, share in ((1, 5 / 32), (2, 1 / 2), (3, 27 / 32)):
            between = (1 - share) * knots[:, :-1] + share * knots[:, 1:]
            np.testing.assert_allclose(gains[:, quarter::4], between, atol=1.0)

    def test_coloured_noise_has_more_than_a_slope(self):
        """From 2 to 4 kHz slopes alone would take its power by -6 to 1.5 dB."""
        shape = RandomFilter(16000, RATE, 12.0)
        hertz = np.fft.rfftfreq(16000, 1 / RATE)
        rises = []
        for seed in range(40):
            power = np.abs(np.fft.rfft(shape.coloured(random_stream(seed, 0, 0)))) ** 2
            low, high = (power[np.abs(hertz - middle) < 100].mean() for middle in (2000, 4000))
            rises.append(10 * np.log10(high / low))
        assert min(rises) < -10
        assert max(rises) > 6

    def test_the_slope_of_coloured_noise_is_from_brown_to_light_blue(self):
        shape = RandomFilter(64000, RATE, 0.0)
        hertz = np.fft.rfftfreq(64000, 1 / RATE)
        slopes, rumble = [], []
        for seed in range(60):
            power = np.abs(np.fft.rfft(shape.coloured(random_stream(seed, 0, 0)))) ** 2
            inside = (hertz > 100) & (hertz < 7500)
            bands = np.array_split(np.flatnonzero(inside), 200)
            x = [np.log(hertz[band].mean()) for band in bands]
            slopes.append(np.polyfit(x, [np.log(power[band].mean()) for band in bands], 1)[0])
            lowest, low = ((hertz > 2) & (hertz < 10), (hertz > 18) & (hertz < 22))
            rumble.append(power[lowest].mean() / power[low].mean())
        assert SLOPES[0] - 0.15 < min(slopes) < SLOPES[0] + 0.3
        assert SLOPES[1] - 0.3 < max(slopes) < SLOPES[1] + 0.15
        assert SLOPES == (-2.0, 0.5)
        assert np.median(rumble) < 1.6  # below 20 Hz it rises no further

    def test_coloured_noise_has_no_offset(self):
        made = RandomFilter(16384, RATE, 6.0).coloured(random_stream(0, 0, 0))
        assert (made.shape, made.dtype) == ((16384,), np.float32)
        assert abs(made.mean()) < 0.2 * made.std()

    @pytest.mark.parametrize("samples", [1, 256, 257, 16384, 64000, 100_003])
    def test_a_fast_length_has_room_and_many_factors_of_two(self, samples):
        length = fast_length(samples)
        assert length % 256 == 0
        assert samples <= length < 1.1 * samples + 256

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
