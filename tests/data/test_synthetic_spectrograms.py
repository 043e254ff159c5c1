"""Made-up spectrograms: like a log-mel of speech, deterministic, at the SNR that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.config.schema import DataConfig
from gan_denoise.data.feature_noise import add_noise
from gan_denoise.data.synthetic_spectrograms import SpectrogramSource, spectrogram
from gan_denoise.metrics import snr_mel


def source(snr_db=2.5, std=0.0, shape=(128, 128), seed=0):
    return SpectrogramSource(shape, DataConfig(snr_mean=snr_db, snr_std=std), seed)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(16, 150), st.integers(8, 150))
def test_any_shape_is_finite_and_within_zero_and_one(seed, frames, bands):
    drawn = spectrogram(np.random.default_rng(seed), frames, bands)
    assert drawn.shape == (frames, bands)
    assert drawn.dtype == np.float32
    assert np.isfinite(drawn).all()
    assert 0 <= drawn.min() <= drawn.max() <= 1


def test_it_has_pauses_and_ridges():
    """Silence between syllables; of the harmonics, bands that rise and fall within a frame."""
    clean = source().batch(0, 16)[1]
    level = clean.max(axis=2)
    assert 0.02 < np.mean(level < 0.05) < 0.6
    loudest = np.stack([c[m.argmax()] for c, m in zip(clean, clean.mean(axis=2), strict=True)])
    peaks = (loudest[:, 1:-1] > loudest[:, :-2]) & (loudest[:, 1:-1] > loudest[:, 2:])
    assert peaks.sum(axis=1).max() >= 8


@given(st.floats(-20, 40), st.integers(0, 99))
def test_noise_has_the_snr_of_its_energy(snr_db, seed):
    rng = np.random.default_rng(seed)
    clean = rng.random((128, 128), np.float32)
    assert snr_mel(clean, add_noise(clean, snr_db, rng)) == pytest.approx(snr_db, abs=0.3)


def test_the_snr_of_a_batch_is_the_recipes():
    noisy, clean = source(2.5).batch(0, 8)
    assert np.mean(list(map(snr_mel, clean, noisy))) == pytest.approx(2.5, abs=0.1)


def test_a_batch_is_a_function_of_seed_and_step():
    first, again = source().batch(3, 2), source().batch(3, 2)
    np.testing.assert_array_equal(first, again)
    for other in (source().batch(4, 2), source(seed=1).batch(3, 2)):
        assert np.abs(np.subtract(first, other)).max() > 0.1
    assert np.abs(first[1][0] - first[1][1]).max() > 0.1
