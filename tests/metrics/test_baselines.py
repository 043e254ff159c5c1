"""The trivial systems."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_denoise.metrics import baselines, snr
from gan_denoise.metrics.baselines import (
    BEST_GAIN,
    NOISY,
    ORACLE,
    SILENCE,
    best_gain,
    trivial_estimates,
)


def mixture(snr_db, seed=0, samples=4000):
    rng = np.random.default_rng(seed)
    clean, noise = rng.standard_normal((2, samples))
    noise *= np.sqrt(np.sum(clean**2) / np.sum(noise**2)) * 10 ** (-snr_db / 20)
    return clean.astype(np.float32), (clean + noise).astype(np.float32)


def test_silence_has_an_snr_of_zero():
    clean, noisy = mixture(-8)
    assert snr(clean, noisy) == pytest.approx(-8, abs=0.01)
    assert snr(clean, trivial_estimates(clean, noisy)[SILENCE]) == 0


@given(st.floats(-20, 20), st.integers(0, 99), st.floats(0, 2))
def test_no_other_gain_has_a_higher_snr(snr_db, seed, gain):
    clean, noisy = mixture(snr_db, seed, 200)
    best = snr(clean, trivial_estimates(clean, noisy)[BEST_GAIN])
    assert best >= snr(clean, gain * noisy) - 1e-4


def test_of_independent_noise_the_best_gain_is_known():
    """Wiener's: output SNR 1 + 10^(SNR / 10)."""
    clean, noisy = mixture(-8, samples=400_000)
    found = snr(clean, trivial_estimates(clean, noisy)[BEST_GAIN])
    assert found == pytest.approx(10 * math.log10(1 + 10**-0.8), abs=0.02)


def test_nothing_heard_is_silence_in_both():
    clean, noisy = np.ones(5, np.float32), np.zeros(5, np.float32)
    assert best_gain(clean, noisy) == 0
    for estimate in trivial_estimates(clean, noisy).values():
        assert not estimate.any()
        assert estimate.dtype == np.float32


@pytest.mark.parametrize("block", [2**18, 7, 1])
def test_the_best_gain_of_a_louder_copy_undoes_it_in_blocks_of_any_size(monkeypatch, block):
    monkeypatch.setattr(baselines, "BLOCK", block)
    clean = np.float32([0.3, -0.1, 0.2, 0.4, 0.1, -0.2, 0.3, 0.2])
    assert best_gain(clean, 4 * clean) == pytest.approx(0.25, rel=1e-6)
    onset = np.float32([1, 0, 0, 0, 0, 0, 0, 0])
    assert best_gain(onset, clean) == pytest.approx(0.3 / np.sum(clean**2), rel=1e-6)


@pytest.mark.parametrize("level", [1e-22, 1e-10, 1.0, 1e18])
def test_the_best_gain_is_exact_at_any_level(level):
    noisy = np.full(1000, level, np.float32)
    assert best_gain(np.ones(1000, np.float32), noisy) == pytest.approx(1 / level, rel=1e-5)


def test_systems_are_named_as_in_the_results_of_all_versions():
    assert {NOISY, ORACLE} == {"noisy", "oracle"}
    assert trivial_estimates(np.ones(3), np.ones(3)).keys() == {"silence", "best gain"}
