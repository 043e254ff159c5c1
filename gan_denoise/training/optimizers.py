"""One update of a network: clipped, applied, or undone where its gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from gan_denoise.config.schema import TrainingConfig
from gan_denoise.training.precision import LossScale


class Update(NamedTuple):
    """What became of a step.

    Attributes:
        norm: Of all gradients together, before clipping.
        applied: 1 where the gradients were applied, else 0.
        finite: 0 where losses or gradients were not finite, and the loss scale of float16 does not
            account for that; else 1.
    """

    norm: tf.Tensor
    applied: tf.Tensor
    finite: tf.Tensor


class _OnEveryReplica:
    """Has an optimizer apply gradients to the variables of its own replica, as they are.

    Keras' own way under a strategy adds gradients up once more, by calls between replicas that a
    condition in a graph cannot hold. Here they are the same on every replica already.
    """

    def _backend_update_step(
        self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable],
        learning_rate: keras.Variable,
    ) -> None:
        for gradient, variable in zip(gradients, variables, strict=True):
            self.update_step(gradient, variable, learning_rate)


class _ReplicaAdam(_OnEveryReplica, keras.optimizers.Adam):
    pass


class _ReplicaMuon(_OnEveryReplica, keras.optimizers.Muon):
    pass


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
    replicated = tf.distribute.has_strategy()
    if kind == "muon":
        muon = _ReplicaMuon if replicated else keras.optimizers.Muon
        optimizer = muon(0.0, adam_beta_1=beta_1, adam_beta_2=beta_2)
    else:
        adam = _ReplicaAdam if replicated else keras.optimizers.Adam
        optimizer = adam(0.0, beta_1=beta_1, beta_2=beta_2)
    # Built now: loading a state into an unbuilt optimizer would drop its moments.
    optimizer.build(network.trainable_variables)
    return optimizer


def snapshot(network: keras.Model) -> list[tf.Tensor]:
    """Return copies of a network's variables, taken before its forward pass."""
    return [tf.identity(variable) for variable in network.variables]


def gradients_of(
    tape: tf.GradientTape, loss: tf.Tensor, network: keras.Model
) -> list[tf.Tensor]:
    """Return the gradients of a loss for all trainable variables of a network."""
    variables = network.trainable_variables
    # A frozen or unused variable has no gradient; zero keeps the optimizer's slots aligned.
    return [tf.zeros_like(variable) if gradient is None else gradient
            for gradient, variable in zip(tape.gradient(loss, variables), variables, strict=True)]


def update(
    optimizer: keras.optimizers.Optimizer, network: keras.Model, gradients: list[tf.Tensor],
    loss: tf.Tensor, before: list[tf.Tensor], rate: tf.Tensor, clip_norm: float,
    scale: LossScale | None = None,
) -> Update:
    """Clip and apply gradients, or leave the network as it was where they are not finite.

    Args:
        optimizer: Of the network.
        network: What is updated.
        gradients: Of its trainable variables.
        loss: What they are the gradients of, times the scale.
        before: The network's `snapshot`.
        rate: Learning rate.
        clip_norm: Largest norm of all gradients together; 0: no clipping.
        scale: Of the loss.
    """
    if scale is not None:
        gradients = scale.unscaled(gradients)
    norm = tf.linalg.global_norm(gradients)
    finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
    if clip_norm:
        gradients, _ = tf.clip_by_global_norm(gradients, clip_norm, norm)

    def apply() -> tf.Tensor:
        optimizer.learning_rate.assign(rate)
        optimizer.apply(gradients, network.trainable_variables)
        return tf.constant(1.0)

    def undo() -> tf.Tensor:  # the forward pass has moved statistics, and kernels by spectral norm
        for variable, value in zip(network.variables, before, strict=True):
            variable.assign(value)
        return tf.constant(0.0)

    applied = tf.cond(finite, apply, undo)
    if scale is None:
        return Update(norm, applied, applied)
    known = tf.math.is_finite(loss)  # else the scale can do nothing
    explained = scale.adapt(finite | tf.logical_not(known)) & known
    return Update(norm, applied, tf.maximum(applied, tf.cast(explained, tf.float32)))
