"""Saturating functions: the plain ones' values, and a gradient that leads back out."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.dsp.keras_bounds import (
    LEAST_SLOPE,
    LEAST_SLOPE_DB,
    gain_decibels,
    lower_bound,
    sigmoid,
    upper_bound,
)
from gan_denoise.models.layers import DirectHead, GainHead

LOGITS = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)  # TensorFlow flushes those
FLOORS = (10.0, 25.0, 60.0)  # dB


def plain_gain(logits, floor_db):
    floor = 10 ** (-floor_db / 20)
    return 20 * np.log10(floor + (1 - floor) / (1 + np.exp(-np.float64(logits))))


def slope(function, x, upstream):
    """Return what the gradient `upstream` of a function's value becomes at its argument."""
    x = tf.constant(np.atleast_1d(x), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x, tf.fill(value.shape, float(upstream))).numpy()


# ---- Values ------------------------------------------------------------------------------------
@settings(deadline=None)
@given(LOGITS)
def test_values_are_the_plain_functions(x):
    with np.errstate(over="ignore"):
        assert float(sigmoid(np.float32(x))) == pytest.approx(1 / (1 + np.exp(-x)), abs=1e-6)
        for floor_db in FLOORS:
            found = float(gain_decibels(np.float32(x), floor_db))
            assert found == pytest.approx(plain_gain(x, floor_db), abs=1e-4)
    for bound in (-1.0, 0.0, 2.5):
        assert float(lower_bound(np.float32(x), bound)) == max(np.float32(x), bound)
        assert float(upper_bound(np.float32(x), bound)) == min(np.float32(x), bound)


# ---- Gradients ---------------------------------------------------------------------------------
@settings(deadline=None)
@given(LOGITS, st.sampled_from([-1.0, 1.0]), st.sampled_from(FLOORS))
def test_a_step_towards_zero_always_has_a_slope_and_a_step_away_the_true_one(x, upstream, floor):
    """Descent moves a logit against its gradient: towards zero where both have one sign."""
    cases = ((sigmoid, lambda z: 1 / (1 + np.exp(-z)), LEAST_SLOPE),
             (lambda z: gain_decibels(z, floor), lambda z: plain_gain(z, floor), LEAST_SLOPE_DB))
    for function, plain, least in cases:
        found = slope(function, x, upstream)[0] * upstream
        z, step = np.float64(np.float32(x)), 1e-3
        with np.errstate(over="ignore"):
            true = (plain(z + step) - plain(z - step)) / (2 * step)
        if upstream * x > 0:
            assert found == pytest.approx(max(true, least), rel=1e-2)
        else:
            assert found == pytest.approx(true, rel=1e-2, abs=1e-5)


def test_a_clip_lets_through_what_leads_back():
    beyond, within = -3.0, 1.0
    assert slope(lambda x: lower_bound(x, 0.0), [beyond, within], 1.0).tolist() == [0.0, 1.0]
    assert slope(lambda x: lower_bound(x, 0.0), [beyond, within], -1.0).tolist() == [-1.0, -1.0]
    assert slope(lambda x: upper_bound(x, 0.0), [-beyond, -within], -1.0).tolist() == [0.0, -1.0]
    assert slope(lambda x: upper_bound(x, 0.0), [-beyond, -within], 1.0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("start", [-1000.0, -30.0, 30.0, 1000.0])
@pytest.mark.parametrize("head", ["gain", "direct"])
def test_logits_far_beyond_any_slope_come_back(head, start):
    """Gradient descent with steps of one size, as Adam's: to the mel that is asked for."""
    noisy = np.full((1, 4, 3), 0.7, np.float32)
    clean = noisy - 6 / 110  # 6 dB below
    logits = tf.Variable(np.full(noisy.shape, start, np.float32))
    layer = GainHead(25.0, 110.0) if head == "gain" else DirectHead()
    for number in range(200):
        with tf.GradientTape() as tape:
            estimate = layer([noisy, logits]) if head == "gain" else layer(logits)
            loss = tf.reduce_mean(tf.square(estimate - clean))
        gradient = tape.gradient(loss, logits)
        logits.assign_sub(abs(start) / 10 * 0.95**number * tf.sign(gradient))
    assert float(loss) < 1e-5
