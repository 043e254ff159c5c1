"""Sums and signals block by block: what blocks are made of changes no result."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_denoise import metrics
from gan_denoise.metrics import Refused, blockwise
from gan_denoise.metrics.blockwise import UnitSignal, equal_parts, require_sound, unit_blocks

NOISE = np.random.default_rng(0).standard_normal((2, 3000))


@given(st.integers(0, 500), st.integers(1, 60))
def test_parts_follow_each_other_and_the_longer_ones_come_first(samples, count):
    parts = list(equal_parts(samples, count))
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == samples
    lengths = [part.stop - part.start for part in parts]
    assert lengths == sorted(lengths, reverse=True)
    assert len(lengths) == count
    assert lengths[0] - lengths[-1] <= 1


@pytest.mark.parametrize("shape", [(0,), (0, 80), (10, 0)])
def test_nothing_has_no_score(shape):
    with pytest.raises(Refused, match="empty"):
        metrics.mse_mel(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_error_names_the_signal_that_is_broken(side, value):
    pair = [signal.copy() for signal in NOISE]
    pair[side][7] = value
    begin = ("^clean holds NaN", "^estimate holds NaN")[side]
    for metric in (metrics.snr, metrics.si_sdr):
        with pytest.raises(ValueError, match=begin):
            metric(*pair)


@pytest.mark.parametrize("block", [1, 3, 10, 2**18])
def test_errors_of_mels_add_up_over_blocks(monkeypatch, block):
    monkeypatch.setattr(blockwise, "BLOCK", block)
    clean, estimate = np.random.default_rng(0).random((2, 10, 4), np.float32)
    assert metrics.mse_mel(clean, estimate) == pytest.approx(
        np.mean((clean.astype(float) - estimate) ** 2))


@pytest.mark.parametrize("block", [500, 1000, 2**18])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e150])
def test_a_unit_signal_has_no_mean_and_energy_one_though_blocks_of_it_are_silent(
    monkeypatch, block, scale
):
    monkeypatch.setattr(blockwise, "BLOCK", block)
    sound = np.concatenate([NOISE[0][:1000], -NOISE[0][:1000]])  # of mean 0
    signal = scale * np.concatenate([np.zeros(1000), sound, np.zeros(1000)])
    for offset in (0.0, 3.0 * scale):
        parts = list(UnitSignal(signal + offset, "clean"))
        assert {len(part) for part in parts} == {min(block, 4000)}
        whole = np.concatenate(parts)
        assert whole.sum() == pytest.approx(0, abs=1e-9)
        assert whole @ whole == pytest.approx(1)
        assert whole @ (signal / scale) > 0
    assert require_sound(signal, signal) == np.abs(signal).max()


def test_a_constant_has_no_unit_though_its_mean_is_rounded():
    for samples in (3, 1000):
        with pytest.raises(Refused, match="noisy is silent"):
            UnitSignal(np.full(samples, 0.1), "noisy")


def test_a_unit_signal_is_silent_before_its_beginning_and_ends_with_the_signal():
    unit = UnitSignal(NOISE[0], "clean")
    whole = unit.block(0, 3000)
    np.testing.assert_array_equal(unit.block(-5, 10), np.r_[np.zeros(5), whole[:10]])
    np.testing.assert_array_equal(unit.block(2990, 4000), whole[2990:])
    assert unit.block(0, 0).shape == (0,)


def test_unit_signals_of_other_lengths_are_not_compared(monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", 1000)
    units = UnitSignal(NOISE[0], "clean"), UnitSignal(NOISE[1][:1500], "estimate")
    with pytest.raises(ValueError, match="shorter"):
        list(unit_blocks(units))
