"""The ESTOI loss: that of pystoi's own steps, near its score, of speech alone."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from pystoi import stoi, utils
from scipy.signal import stft

from gan_denoise.examples import clean_speech, noisy_speech
from gan_denoise.training import losses

RATE, HOP = 16000, 128
SEGMENT = 48  # frames


def parts(*waveforms):
    """STFTs `(real, imaginary)` of a batch, `[batch, frames, bins]`."""
    spectra = stft(np.stack(waveforms), RATE, nperseg=512, noverlap=512 - HOP, padded=False)[2]
    spectra = spectra.transpose(0, 2, 1)
    return spectra.real.astype(np.float32), spectra.imag.astype(np.float32)


def missing(clean, estimate):
    return float(losses.missing_estoi(clean, estimate, RATE, HOP))


@pytest.fixture(scope="module")
def speech():
    """(clean, noisy), `[samples]`."""
    (clean, rate), (noisy, _) = (soundfile.read(file) for file in (clean_speech(), noisy_speech()))
    assert rate == RATE
    start = int(np.argmax(np.convolve(clean**2, np.ones(2 * RATE), "valid")))
    return clean[start : start + 2 * RATE], noisy[start : start + 2 * RATE]


def with_noise(speech, share):
    clean, noisy = speech
    return clean + share * (noisy - clean)


def test_the_bands_are_those_of_pystoi():
    np.testing.assert_array_equal(losses.third_octaves(10_000, 512).T,
                                  utils.thirdoct(10_000, 512, 15, 150)[0])
    bands = losses.third_octaves(8000, 256)  # the highest ends at 4,276 Hz
    assert bands.shape == (129, 15)
    assert bands.sum(axis=1).max() == 1
    assert losses.third_octaves(4000, 256).shape[1] < 15


@pytest.mark.parametrize("share", [0.1, 0.5, 2.0])
def test_it_is_what_pystoi_makes_of_these_frames(speech, share):
    clean, estimate = (np.hypot(*parts(x))[0].astype(np.float64)
                       for x in (speech[0], with_noise(speech, share)))
    level = np.sum(clean**2, axis=1)
    spoken = level > 1e-4 * level.max()
    bands = losses.third_octaves(RATE, 512)
    segments = [np.lib.stride_tricks.sliding_window_view(
        np.sqrt(x[spoken] ** 2 @ bands), SEGMENT, axis=0)[::6] for x in (clean, estimate)]
    units = [utils.row_col_normalize(x) for x in segments]  # [segments, bands, frames]
    expected = 1 - np.mean(np.sum(units[0] * units[1], axis=(1, 2))) / SEGMENT
    found = missing(parts(speech[0]), parts(with_noise(speech, share)))
    assert found == pytest.approx(expected, abs=1e-4)


def test_it_is_near_the_score_and_worse_is_larger(speech):
    shares = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
    found = [missing(parts(speech[0]), parts(with_noise(speech, share))) for share in shares]
    scores = [1 - stoi(speech[0], with_noise(speech, share), RATE, extended=True)
              for share in shares]
    assert found[0] == pytest.approx(0, abs=1e-5)
    assert found == sorted(found)
    assert found == pytest.approx(scores, abs=0.06)
    other = np.random.default_rng(0).normal(0, 0.1, len(speech[0]))
    assert missing(parts(speech[0]), parts(other)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("gains", [(1, 0.03), (1, 20), (0.001, 0.001), (10, 10)])
def test_it_does_not_depend_on_levels(speech, gains):
    noisy = with_noise(speech, 0.5)
    expected = missing(parts(speech[0]), parts(noisy))
    found = missing(parts(gains[0] * speech[0]), parts(gains[1] * noisy))
    assert found == pytest.approx(expected, abs=1e-3)


def test_what_is_no_speech_does_not_count(speech):
    clean, noisy = parts(speech[0]), parts(with_noise(speech, 0.5))

    def with_pauses(spectrum, level):
        noise = np.random.default_rng(1).normal(0, level, (1, 60, 257)).astype(np.float32)
        return tuple(np.concatenate([x[:, :100], noise, x[:, 100:], noise], axis=1)
                     for x in spectrum)

    found = missing(with_pauses(clean, 0.0), with_pauses(noisy, 0.01))
    assert found == pytest.approx(missing(clean, noisy), abs=1e-6)


def test_it_is_the_mean_over_clips_and_0_for_one_without_speech(speech):
    clean, noisy, silence = speech[0], with_noise(speech, 0.5), np.zeros(len(speech[0]))
    click = silence.copy()
    click[20_000:20_400] = 0.3  # under 0.4 s
    alone = missing(parts(clean), parts(noisy))
    assert missing(parts(clean, silence, click, clean), parts(noisy, noisy, noisy, clean)) == (
        pytest.approx(alone / 4, abs=1e-5))


def test_a_clip_that_is_shorter_than_a_segment_is_one(speech):
    clean, noisy = (parts(x[8000:11000]) for x in (speech[0], with_noise(speech, 0.5)))
    assert clean[0].shape[1] < SEGMENT
    assert missing(clean, clean) == pytest.approx(0, abs=1e-5)
    assert 0.01 < missing(clean, noisy) < 1.2


@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0])
def test_its_slope_is_finite_and_0_where_nothing_is_missing(speech, level):
    clean = parts(speech[0])
    estimate = [tf.Variable(level * part) for part in clean]
    with tf.GradientTape() as tape:
        value = losses.missing_estoi(clean, tuple(estimate), RATE, HOP)
    slopes = tape.gradient(value, estimate)
    assert all(np.isfinite(slope).all() for slope in slopes)
    if level == 1.0:
        assert max(float(np.abs(slope).max()) for slope in slopes) < 1e-3


def test_a_step_along_its_slope_makes_it_smaller(speech):
    clean = parts(speech[0])
    estimate = [tf.Variable(part) for part in parts(with_noise(speech, 1.0))]
    with tf.GradientTape() as tape:
        before = losses.missing_estoi(clean, tuple(estimate), RATE, HOP)
    slopes = tape.gradient(before, estimate)
    length = np.sqrt(sum(float(tf.reduce_sum(slope**2)) for slope in slopes))
    stepped = [part - 1e-4 * slope / length for part, slope in zip(estimate, slopes, strict=True)]
    after = missing(clean, stepped)
    assert float(before) - after == pytest.approx(1e-4 * length, rel=0.3)
