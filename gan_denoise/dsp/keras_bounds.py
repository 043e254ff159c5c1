"""Sigmoids and clips in `keras.ops` whose gradient does not vanish in saturation.

A network whose output is deep in the saturation of a sigmoid or beyond a clip gets no gradient, so
no loss can move it back. The functions here return the same values as the plain ones. Their
gradient differs in one case: where a step of descent would lead out of saturation, the slope has a
lower bound. Where it would lead deeper, the slope is the true one. For clips this is
`identity_if_towards` of TensorFlow Compression (Ballé et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from keras import ops

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

LEAST_SLOPE_DB = 0.5  # dB per logit, of `gain_decibels`
LEAST_SLOPE = 0.005  # per logit, of `sigmoid`: the same, as its [0, 1] stands for about 100 dB


def sigmoid(logits: Tensor) -> Tensor:
    """Return the sigmoid, with a slope of `LEAST_SLOPE` or more towards zero.

    Args:
        logits: Tensor of any shape.

    Returns:
        Tensor of the same shape, in (0, 1).
    """

    def value_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
        value = ops.sigmoid(x)
        return value, value * (1 - value)

    return _with_least_slope(value_and_slope, LEAST_SLOPE)(logits)


def gain_decibels(logits: Tensor, floor_db: float) -> Tensor:
    """Return a gain in dB: its amplitude is the sigmoid of a logit, mapped to [floor, 1].

    The slope towards zero is `LEAST_SLOPE_DB` or more.

    Args:
        logits: Tensor of any shape.
        floor_db: Deepest attenuation in dB, positive; the floor is 10^(-floor_db / 20).

    Returns:
        Tensor of the same shape, in (-floor_db, 0) dB.
    """
    floor = 10 ** (-floor_db / 20)
    to_decibel = 20 / math.log(10)

    def value_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
        share = ops.sigmoid(x)
        gain = floor + (1 - floor) * share
        return ops.log(gain) * to_decibel, to_decibel * (1 - floor) * share * (1 - share) / gain

    return _with_least_slope(value_and_slope, LEAST_SLOPE_DB)(logits)


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """Return `max(x, bound)`; below the bound a gradient whose descent raises `x` passes.

    Args:
        x: Tensor of any shape.
        bound: The least value.
    """

    @ops.custom_gradient
    def bounded(x: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        def gradient(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            upstream = args[0] if upstream is None else upstream
            passes = ops.logical_or(x >= bound, upstream < 0)
            return ops.where(passes, upstream, ops.zeros_like(upstream))

        return ops.maximum(x, bound), gradient

    return bounded(x)


def upper_bound(x: Tensor, bound: float) -> Tensor:
    """Return `min(x, bound)`; above the bound a gradient whose descent lowers `x` passes.

    Args:
        x: Tensor of any shape.
        bound: The largest value.
    """
    return -lower_bound(-x, -bound)


def _with_least_slope(
    value_and_slope: Callable[[Tensor], tuple[Tensor, Tensor]], least: float
) -> Callable[[Tensor], Tensor]:
    """Return a function of logits whose slope towards zero is at least `least`.

    Args:
        value_and_slope: Returns the value at each logit and the true slope there.
        least: Lower bound of the slope where descent leads towards zero.
    """

    @ops.custom_gradient
    def function(logits: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        value, slope = value_and_slope(logits)

        def gradient(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            upstream = args[0] if upstream is None else upstream
            towards_zero = upstream * logits > 0  # descent goes against the gradient
            return upstream * ops.where(towards_zero, ops.maximum(slope, least), slope)

        return value, gradient

    return function
