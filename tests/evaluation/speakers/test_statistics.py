"""Effect sizes, intervals and permutation tests of a few values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gan_denoise.evaluation.speakers.statistics import (
    RESAMPLES,
    adjust,
    epsilon_squared,
    hedges_g,
    mean_interval,
    permutation_p,
    smallest_p,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_hedges_g_by_hand():
    first, second = np.arange(1.0, 6.0), np.arange(0.0, 5.0)
    # d = 1 / sqrt(2.5); the correction for 8 degrees is gamma(4) / (2 gamma(3.5)) = 0.902703.
    assert hedges_g(first, second) == pytest.approx(0.902703 / np.sqrt(2.5), rel=1e-5)
    assert hedges_g(second, first) == -hedges_g(first, second)
    assert hedges_g(np.ones(3), np.zeros(3)) is None


def test_hedges_g_is_unbiased_in_small_samples():
    found = [hedges_g(pair[0] + 1.0, pair[1]) for pair in normal(4000, 2, 4)]
    assert np.mean(found) == pytest.approx(1.0, abs=0.05)


def test_epsilon_squared_by_hand():
    # Between: 26 on 2 degrees; within: 6 on 6; total: 32. (26 - 2 * 1) / 32.
    samples = [np.array([1.0, 2, 3]), np.array([2.0, 3, 4]), np.array([5.0, 6, 7])]
    assert epsilon_squared(samples) == pytest.approx(0.75)
    assert epsilon_squared([np.ones(3), np.ones(4)]) is None
    assert epsilon_squared([np.zeros(3), np.ones(3), np.ones(3)]) == pytest.approx(1.0)


def test_epsilon_squared_of_no_effect_is_0_on_average():
    found = [epsilon_squared(list(x)) for x in normal(2000, 3, 4)]
    assert np.mean(found) == pytest.approx(0.0, abs=0.01)
    assert min(found) < 0


def test_p_of_two_groups_counts_all_divisions():
    values = normal(7)
    chosen = [sum(part) for part in itertools.combinations(values - values.mean(), 3)]
    seen = abs(sum(values[:3] - values.mean()))
    expected = np.mean(np.abs(chosen) >= seen - 1e-9)
    assert permutation_p([values[:3], values[3:]]) == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [(3, 3), (3, 4), (5, 5), (3, 3, 3), (2, 3, 4)])
def test_groups_wide_apart_have_the_smallest_p(sizes):
    samples = [normal(size, seed=size) + 100 * place for place, size in enumerate(sizes)]
    assert permutation_p(samples) == pytest.approx(smallest_p(sizes))


def test_the_smallest_p():
    assert smallest_p((3, 3)) == pytest.approx(0.1)
    assert smallest_p((3, 4)) == pytest.approx(1 / 35)
    assert smallest_p((4, 4)) == pytest.approx(2 / 70)
    assert smallest_p((30, 30)) == 1 / (RESAMPLES + 1)


def test_p_of_many_is_that_of_a_normal_test():
    from scipy.stats import f_oneway

    samples = list(normal(3, 20, seed=4))
    samples[1] += 0.5
    assert permutation_p(samples) == pytest.approx(f_oneway(*samples).pvalue, abs=0.02)
    assert permutation_p(samples, seed=1) == permutation_p(samples, seed=1)


def test_p_does_not_depend_on_offset_or_scale_and_equal_values_tell_nothing():
    first, second = normal(2, 5)
    p = permutation_p([first, second])
    assert permutation_p([1e6 + first, 1e6 + second]) == p
    assert permutation_p([1e-6 * first, 1e-6 * second]) == p
    assert permutation_p([np.full(4, 0.1), np.full(3, 0.1)]) == 1.0


@pytest.mark.parametrize("sizes", [(5, 5), (4, 9), (3, 3, 3)])
def test_false_positives_are_as_many_as_promised(sizes):
    ends = np.cumsum(sizes)[:-1]
    draws = normal(300, sum(sizes), seed=sum(sizes))
    rate = np.mean([permutation_p(np.split(values, ends)) <= 0.05 for values in draws])
    assert 0.02 < rate < 0.085  # 0.05 give or take 2.8 standard errors


def test_an_interval_lies_around_the_mean_and_within_the_values():
    values = normal(9)
    low, high = mean_interval(values)
    assert values.min() <= low < values.mean() < high <= values.max()
    assert mean_interval(values) == (low, high)
    assert mean_interval(np.full(4, 2.5)) == (2.5, 2.5)


def test_intervals_cover_the_mean_as_often_as_promised():
    intervals = [mean_interval(values, seed) for seed, values in enumerate(normal(150, 10))]
    covered = np.mean([low < 0 < high for low, high in intervals])
    assert 0.89 < covered <= 0.99


def test_adjusted_p_by_hand():
    np.testing.assert_allclose(adjust([0.01, 0.04, 0.03, 0.5]), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert len(adjust([])) == 0
