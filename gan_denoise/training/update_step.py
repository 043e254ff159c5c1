"""A training step of one network, from a whole batch or from parts of it, on all replicas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import keras
import tensorflow as tf

from gan_denoise.training.optimizers import snapshot
from gan_denoise.training.replicas import Replicas

# A tensor of one device, or those of several replicas.
Value = tf.Tensor | tf.distribute.DistributedValues
Made = TypeVar("Made")
Values = dict[str, tf.Tensor]
Schedule = Mapping[str, tf.Tensor]
Sums = tuple[list[tf.Tensor], Values]
Gradients = Callable[..., tuple[list[tf.Tensor], Values, Made]]
Finish = Callable[[list[tf.Tensor], Values, list[tf.Tensor], Schedule], Values]


class UpdateStep(Generic[Made]):
    """Computes gradients part by part, and updates a network once.

    The mean of the parts' gradients is the gradient of the whole batch, as losses are means over
    clips, where a network treats each clip apart. Batch norm does not: it takes its statistics
    from each part. Spectral norm makes its power iteration with the first part.

    Args:
        replicas: Devices that train.
        network: What is updated.
        gradients: `(*part, schedule, training)` -> gradients of the network's trainable variables,
            named values, and what else the step makes.
        finish: `(gradients, values, before, schedule)` -> named values of the update, from means
            over the parts, and the network's `snapshot` from before the first.
    """

    def __init__(
        self, replicas: Replicas, network: keras.Model, gradients: Gradients[Made], finish: Finish
    ):
        self._network, self._gradients, self._finish = network, gradients, finish
        normalised = any(isinstance(layer, keras.layers.SpectralNormalization)
                         for layer in network.layers)
        self._training_later = not normalised
        self._whole = replicas.function(self._one)
        self._copy = replicas.function(lambda: snapshot(network))
        self._first = replicas.function(self._begin)
        self._next = replicas.function(self._add)
        self._last = replicas.function(self._end)

    def __call__(
        self, parts: Sequence[tuple[object, ...]], schedule: Schedule
    ) -> tuple[Values, list[Made]]:
        """Do a step.

        Args:
            parts: Of the batch: the arguments of `gradients` for each.
            schedule: Named numbers of this step.

        Returns:
            Named values, and what else was made of each part.
        """
        if len(parts) == 1:
            values, made = self._whole(*parts[0], schedule)
            return values, [made]
        before = self._copy()
        sums, made = self._first(*parts[0], schedule)
        all_made = [made]
        for part in parts[1:]:
            sums, made = self._next(sums, *part, schedule)
            all_made.append(made)
        return self._last(sums, before, schedule, tf.constant(len(parts), tf.float32)), all_made

    def _one(self, *arguments: Any) -> tuple[Values, Made]:
        before = snapshot(self._network)
        gradients, values, made = self._gradients(*arguments, True)
        return self._finish(gradients, values, before, arguments[-1]), made

    def _begin(self, *arguments: Any) -> tuple[Sums, Made]:
        gradients, values, made = self._gradients(*arguments, True)
        return (gradients, values), made

    def _add(self, sums: Sums, *arguments: Any) -> tuple[Sums, Made]:
        gradients, values, made = self._gradients(*arguments, self._training_later)
        return tf.nest.map_structure(tf.add, sums, (gradients, values)), made

    def _end(
        self, sums: Sums, before: list[tf.Tensor], schedule: Schedule, parts: tf.Tensor
    ) -> Values:
        gradients, values = tf.nest.map_structure(lambda total: total / parts, sums)
        return self._finish(gradients, values, before, schedule)
