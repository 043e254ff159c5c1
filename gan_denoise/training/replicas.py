"""The devices that train together: one, all of this machine, or those of several workers.

Every replica holds all variables and computes gradients from its share of the batch. They are
added up before they are clipped and applied, so each makes the update that one device would make
of the whole batch. Between workers, the chief decides and writes, and the others follow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that TensorFlow runs as a graph.

    What is in it must not branch by a tensor's value in plain Python: AutoGraph, which would
    translate that, writes files into the folder for temporary files, and they stay where the
    process is killed.
    """
    return tf.function(function, autograph=False)


class Replicas:
    """One device, which TensorFlow chooses; `distributed` has those of several.

    Attributes:
        count: Number of replicas.
        workers: Number of processes.
        rank: Number of this process, from 0.
    """

    count, workers, rank = 1, 1, 0

    @property
    def chief(self) -> bool:
        """Whether this process decides and writes."""
        return self.rank == 0

    def summary(self) -> str:
        """Return in words which devices train."""
        gpus = tf.config.list_logical_devices("GPU")
        return f"trains on {_named(gpus[:1]) if gpus else 'the CPU'}"

    def building(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which variables are made for all replicas."""
        return contextlib.nullcontext()

    def prepare(self, network: keras.Model) -> None:
        """Have a network's layers take what they measure of a batch from all replicas."""

    def function(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that runs on every replica at once, in a graph."""
        return graph(step)

    def items(self, batch_size: int, parts: int) -> list[int] | None:
        """Return the items of a batch that this process trains on; None: all, in order.

        Args:
            batch_size: Items of a part.
            parts: Parts of the batch.
        """
        return None

    def split(self, *arrays: Any) -> tuple[Any, ...]:
        """Return a part of a batch, of which this process has its own items, replica by replica."""
        return arrays

    def means(self, gradients: list[Any], values: Mapping[str, Any]
              ) -> tuple[list[Any], dict[str, Any]]:
        """Return means over the replicas; called on each."""
        return gradients, dict(values)

    def mean(self, value: Any) -> Any:
        """Return the mean of a number over the replicas; called on each."""
        return value

    def gathered(self, array: Any) -> np.ndarray:
        """Return the items of all replicas, those of the first replica first."""
        return np.asarray(array)

    def floats(self, values: Mapping[str, Any]) -> dict[str, float]:
        """Return named values that are the same on every replica."""
        return {name: float(value) for name, value in values.items()}

    def first(self, value: Any) -> Any:
        """Return this process's first replica's part of what a `function` returned."""
        return value

    def watched(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context that says in words that another worker is gone."""
        return contextlib.nullcontext()

    # ---- Between workers -----------------------------------------------------------------------
    def from_chief(self, decide: Callable[[], Any]) -> Any:
        """Return what a function returns on the chief; only there it is called.

        Args:
            decide: Returns what JSON can hold.

        Raises:
            GanDenoiseError: What it raises there, everywhere.
        """
        return decide()

    def share(self, variables: Mapping[str, Any]) -> None:
        """Give variables the values that they have on the chief."""

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set on any worker."""
        return flags

    def sums(self, array: np.ndarray) -> np.ndarray:
        """Return the sum of float32 arrays of one shape over the workers."""
        return array


def _named(devices: list[Any]) -> str:
    return ", ".join(device.name.rpartition("device:")[2] for device in devices)
