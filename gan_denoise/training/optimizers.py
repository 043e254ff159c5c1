"""One update of a network: clipped, applied, or undone where its gradient is not finite."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from gan_denoise.config.schema import TrainingConfig


def make_optimizer(
    network: keras.Model, kind: str, training: TrainingConfig
) -> keras.optimizers.Optimizer:
    """Return an optimizer that is built for a network; the rate comes with each update.

    Args:
        network: What it will train.
        kind: `adam`, or `muon` (Jordan et al. 2024): matrices step equally far in every direction,
            all other variables take Adam's step.
        training: `adam_betas` is used.
    """
    beta_1, beta_2 = training.adam_betas
    if kind == "muon":
        optimizer = keras.optimizers.Muon(0.0, adam_beta_1=beta_1, adam_beta_2=beta_2)
    else:
        optimizer = keras.optimizers.Adam(0.0, beta_1=beta_1, beta_2=beta_2)
    # Built now: loading a state into an unbuilt optimizer would drop its moments.
    optimizer.build(network.trainable_variables)
    return optimizer


def snapshot(network: keras.Model) -> list[Any]:
    """Return copies of a network's variables, taken before its forward pass."""
    return [tf.identity(variable) for variable in network.variables]


def update(
    optimizer: keras.optimizers.Optimizer, network: keras.Model, gradients: list[Any], loss: Any,
    before: list[Any], rate: Any, clip_norm: float,
) -> tuple[Any, Any]:
    """Clip and apply gradients, or leave the network as it was where they are not finite.

    Args:
        optimizer: Of the network.
        network: What is updated.
        gradients: Of its trainable variables; None where a variable has none.
        loss: What they are the gradients of.
        before: The network's `snapshot`.
        rate: Learning rate.
        clip_norm: Largest norm of all gradients together; 0: no clipping.

    Returns:
        The norm before clipping, and 1 where the gradients were applied, else 0.
    """
    # A frozen or unused variable has no gradient; zero keeps the optimizer's slots aligned.
    gradients = [
        tf.zeros_like(v) if g is None else g
        for g, v in zip(gradients, network.trainable_variables, strict=True)
    ]
    norm = tf.linalg.global_norm(gradients)
    finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
    if clip_norm:
        gradients, _ = tf.clip_by_global_norm(gradients, clip_norm, norm)

    def apply() -> Any:
        optimizer.learning_rate.assign(rate)
        optimizer.apply(gradients, network.trainable_variables)
        return tf.constant(1.0)

    def undo() -> Any:  # the forward pass has moved statistics, and kernels by spectral norm
        for variable, value in zip(network.variables, before, strict=True):
            variable.assign(value)
        return tf.constant(0.0)

    return norm, tf.cond(finite, apply, undo)
