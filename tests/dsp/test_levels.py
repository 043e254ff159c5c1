"""Levels measured block by block, on signals whose levels are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.dsp.levels import Levels

RATE = 16000


def measured(noisy, output, sizes=(10**9,)):
    levels, start, k = Levels(RATE), 0, 0
    while start < noisy.shape[1]:
        stop = start + sizes[k % len(sizes)]
        levels.add(noisy[:, start:stop], output[:, start:stop])
        start, k = stop, k + 1
    return levels


def test_known_levels():
    time = np.arange(4 * RATE) / RATE
    hiss = 0.01 * np.random.default_rng(0).standard_normal((2, 4 * RATE))
    speech = 0.5 * np.sin(2 * np.pi * 300 * time) * (time % 1 < 0.7)
    levels = measured(speech + hiss, speech + 0.1 * hiss)
    assert levels.noise_floor_drop_db == pytest.approx(20, abs=0.5)  # the speech plays no part
    assert levels.peak_in_db == pytest.approx(20 * np.log10(np.abs(speech + hiss).max()), abs=0.01)
    assert levels.peak_out == np.abs(speech + 0.1 * hiss).max()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=5), st.integers(1, 9000))
def test_blocks_change_nothing(sizes, length):
    noisy = np.random.default_rng(length).standard_normal((2, length)).astype(np.float32)
    whole, parts = measured(noisy, 0.5 * noisy), measured(noisy, 0.5 * noisy, sizes)
    assert parts.noise_floor_drop_db == whole.noise_floor_drop_db
    assert (parts.peak_in_db, parts.peak_out_db) == (whole.peak_in_db, whole.peak_out_db)
    if length >= 800:
        assert whole.noise_floor_drop_db == pytest.approx(6.0, abs=0.1)


def test_digital_silence_is_no_noise_floor():
    noisy = np.zeros((1, 2 * RATE), np.float32)
    assert measured(noisy, noisy).noise_floor_drop_db is None
    assert measured(noisy, noisy).peak_in_db is None
    noisy[:, RATE:] = 0.01 * np.random.default_rng(0).standard_normal(RATE)
    assert measured(noisy, 0.1 * noisy).noise_floor_drop_db == pytest.approx(20, abs=0.15)
    assert measured(noisy, 0 * noisy).noise_floor_drop_db > 50  # all of it gone: finite


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 3e38), (np.float64, 1e300)])
def test_samples_whose_squares_no_float_holds_are_measured(dtype, largest):
    noisy = np.full((1, 4000), largest, dtype)
    noisy[:, 2000:] = 0.01
    levels = Levels(8000)
    levels.add(noisy, noisy / 10)
    assert levels.peak_in_db == pytest.approx(20 * np.log10(largest), abs=0.01)
    assert levels.noise_floor_drop_db == pytest.approx(20.0, abs=0.1)
