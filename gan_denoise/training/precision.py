"""Half precision: which type networks compute in, and the scale that float16 gradients need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

FIRST_SCALE = 2.0**15
GROWTH_STEPS = 2000  # without an overflow, after which the scale doubles
LEAST_SCALE = 1.0  # below it a gradient that is not finite is no fault of float16


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Build networks that compute in a type; their variables stay float32.

    Args:
        precision: `float32`, `bfloat16` or `float16`.
    """
    if precision == "float32":
        yield
        return
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(former)


class LossScale:
    """Factor of a loss, so that its gradients do not vanish in float16 (Micikevicius et al. 2018).

    It halves with each overflow, and doubles after `GROWTH_STEPS` steps without one. Made beside
    the variables of the network; part of a checkpoint.
    """

    def __init__(self) -> None:
        self.scale = tf.Variable(FIRST_SCALE, trainable=False, name="scale")
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="steps")
        self.variables = [self.scale, self.steps]

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """Return a loss times the scale."""
        return loss * self.scale

    def unscaled(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return the gradients of a scaled loss over the scale."""
        return [gradient / self.scale for gradient in gradients]

    def adapt(self, finite: tf.Tensor) -> tf.Tensor:
        """Change the scale after a step.

        Args:
            finite: Whether the gradients were finite, a boolean tensor.

        Returns:
            Whether a gradient that was not finite is accounted for by the scale.
        """
        explained = tf.logical_not(finite) & (self.scale > LEAST_SCALE)
        steps = tf.where(finite, self.steps + 1, 0)
        grows = steps >= GROWTH_STEPS
        kept = tf.where(grows, 2 * self.scale, self.scale)
        self.scale.assign(tf.where(finite, kept, tf.maximum(self.scale / 2, LEAST_SCALE)))
        self.steps.assign(tf.where(grows, tf.zeros_like(steps), steps))
        return explained


def make_scale(precision: str) -> LossScale | None:
    """Return the loss scale that a precision needs; None where it needs none."""
    return LossScale() if precision == "float16" else None
