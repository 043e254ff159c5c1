"""Functions that saturate, with a gradient that leads back out of saturation.

A network whose output lies far on the flat side of a sigmoid, or behind a clip, gets no gradient
and never comes back, whatever its loss says. The functions here compute what the plain ones do.
Their gradient differs in one case: where the true slope is next to nothing and a step downhill
would leave the flat side, it is as if there were a small slope. A step further in gets the true
slope. For clips this is `identity_if_towards` of TensorFlow Compression (Ballé et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

LEAST_SLOPE_DB = 0.5  # dB a logit of a gain, on the way back
LEAST_SLOPE = 0.005  # the same of a sigmoid whose [0, 1] stands for about 100 dB


def sigmoid(logits: Any) -> Any:
    """Return the sigmoid of a tensor of any shape."""

    def value_and_slope(x: Any) -> tuple[Any, Any]:
        value = ops.sigmoid(x)
        return value, value * (1 - value)

    return _returning(value_and_slope, LEAST_SLOPE)(logits)


def gain_decibels(logits: Any, floor_db: float) -> Any:
    """Return the decibels of a linear gain that the sigmoid of a logit moves between its bounds.

    Args:
        logits: Of any shape.
        floor_db: Deepest cut; the linear gain lies in (10^(-floor_db / 20), 1).
    """
    floor = 10 ** (-floor_db / 20)
    to_decibel = 20 / math.log(10)

    def value_and_slope(x: Any) -> tuple[Any, Any]:
        share = ops.sigmoid(x)
        gain = floor + (1 - floor) * share
        return ops.log(gain) * to_decibel, to_decibel * (1 - floor) * share * (1 - share) / gain

    return _returning(value_and_slope, LEAST_SLOPE_DB)(logits)


def lower_bound(x: Any, bound: float) -> Any:
    """Return `max(x, bound)`; below the bound a gradient that leads up passes."""

    @ops.custom_gradient
    def bounded(x: Any) -> tuple[Any, Callable[..., Any]]:
        def gradient(*args: Any, upstream: Any = None) -> Any:
            upstream = args[0] if upstream is None else upstream
            passes = ops.logical_or(x >= bound, upstream < 0)
            return ops.where(passes, upstream, ops.zeros_like(upstream))

        return ops.maximum(x, bound), gradient

    return bounded(x)


def upper_bound(x: Any, bound: float) -> Any:
    """Return `min(x, bound)`; above the bound a gradient that leads down passes."""
    return -lower_bound(-x, -bound)


def _returning(
    value_and_slope: Callable[[Any], tuple[Any, Any]], least: float
) -> Callable[[Any], Any]:
    """Return a function of logits, saturating away from zero, whose slope towards zero is `least`
    or more."""

    @ops.custom_gradient
    def function(logits: Any) -> tuple[Any, Callable[..., Any]]:
        value, slope = value_and_slope(logits)

        def gradient(*args: Any, upstream: Any = None) -> Any:
            upstream = args[0] if upstream is None else upstream
            towards_zero = upstream * logits > 0  # descent goes against the gradient
            return upstream * ops.where(towards_zero, ops.maximum(slope, least), slope)

        return value, gradient

    return function
