"""Replicas on several devices and workers, by `tf.distribute`."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gan_denoise.config.schema import TrainingConfig
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.json_text import parse_json
from gan_denoise.training.errors import TrainingError
from gan_denoise.training.replicas import Replicas, graph

SHORT, LONG = 2048, 2**20  # numbers that a message between workers is sent in
SUM = tf.distribute.ReduceOp.SUM
# What TensorFlow raises where workers no longer reach each other.
GONE = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
        tf.errors.InternalError, tf.errors.DeadlineExceededError,
        tf.errors.FailedPreconditionError)


def make_replicas(training: TrainingConfig) -> Replicas:
    """Return the devices that `training.strategy` names; call it before anything is computed.

    With `multi_worker` it waits until all workers of `TF_CONFIG` are there.

    Raises:
        TrainingError: When `TF_CONFIG` is missing or wrong, or the batch cannot be shared out.
    """
    if training.strategy == "none":
        return Replicas()
    # It says at length what `summary` says, and warns of a graph for each length of a message.
    tf.get_logger().setLevel(logging.ERROR)
    if training.strategy == "mirrored":
        replicas = DistributedReplicas(_strategy(tf.distribute.MirroredStrategy))
    else:
        _check_cluster()
        replicas = DistributedReplicas(_strategy(tf.distribute.MultiWorkerMirroredStrategy))
    if training.batch_size % replicas.count:
        count = replicas.count
        fitting = -(-training.batch_size // count) * count
        raise TrainingError(f"training.batch_size {training.batch_size} cannot be shared out among "
                            f"{count} devices", f"give {fitting}")
    return replicas


@functools.cache
def _strategy(kind: Callable[[], tf.distribute.Strategy]) -> tf.distribute.Strategy:
    """Return the one strategy of a kind: two of a process would number their exchanges alike."""
    return kind()


def _check_cluster() -> None:
    way_out = ('give each process TF_CONFIG={"cluster": {"worker": ["HOST:PORT", ...]}, "task": '
               '{"type": "worker", "index": 0}} with an index of its own')
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        raise TrainingError("training.strategy=multi_worker finds no TF_CONFIG", way_out)
    try:
        given = parse_json(text)
        hosts, task = given["cluster"][given["task"]["type"]], int(given["task"]["index"])
        if not 0 <= task < len(hosts):
            raise ValueError(f"there is no task {task}")
    except (ValueError, LookupError, TypeError) as error:
        raise TrainingError(f"TF_CONFIG says no task of a cluster ({error})", way_out) from error


def _leave() -> None:
    """End this process: at its end TensorFlow would wait for workers that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(TrainingError.exit_code)


class DistributedReplicas(Replicas):
    """Those of a `tf.distribute` strategy that mirrors all variables.

    Args:
        strategy: `MirroredStrategy` or `MultiWorkerMirroredStrategy`.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        numbers = strategy.experimental_local_results(self._each(
            lambda number: tf.constant(number)))
        self._numbers = [int(number) for number in numbers]  # of the replicas of this process
        self.count = strategy.num_replicas_in_sync
        self.workers = self.count // len(numbers)
        self.rank = self._numbers[0] // len(numbers)
        # `tf.identity`: an argument of a graph lies on no device, which TensorFlow asks for.
        self._sum = self.function(lambda array: _context().all_reduce(SUM, tf.identity(array)))

    def _each(self, make: Callable[[int], Any]) -> Any:
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: make(context.replica_id_in_sync_group))

    def summary(self) -> str:
        """See `Replicas`."""
        names = [name.rpartition("device:")[2] for name in self.strategy.extended.worker_devices]
        own = f"trains on {', '.join(names)}"
        if self.workers == 1:
            return own
        role = "the chief, which writes" if self.chief else "not the chief"
        return (f"{own} of worker {self.rank} of {self.workers} ({role}); {self.count} devices in "
                "all")

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """See `Replicas`.

        Variables are assigned on each replica by itself, as all compute the same.
        """
        def alone(make: Callable[..., Any], **settings: Any) -> Any:
            return make(**settings | {"aggregation": tf.VariableAggregation.NONE})

        with self.strategy.scope(), tf.variable_creator_scope(alone):
            yield

    def prepare(self, network: keras.Model) -> None:
        """See `Replicas`. Batch norm then has the statistics of the whole batch."""
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True

    def function(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """See `Replicas`."""
        return graph(lambda *arguments: self.strategy.run(step, args=arguments))

    # ---- The batch -----------------------------------------------------------------------------
    def items(self, batch_size: int, parts: int) -> list[int]:
        """See `Replicas`."""
        share = batch_size // self.count
        own = range(self._numbers[0] * share, (self._numbers[-1] + 1) * share)
        return [part * batch_size + item for part in range(parts) for item in own]

    def split(self, *arrays: Any) -> tuple[Any, ...]:
        """See `Replicas`."""
        share = len(arrays[0]) // len(self._numbers)

        def of(array: Any) -> Callable[[int], Any]:
            def part(number: int) -> Any:
                at = (number - self._numbers[0]) * share
                return tf.convert_to_tensor(array[at : at + share])
            return part

        return tuple(self._each(of(array)) for array in arrays)

    def gathered(self, array: Any) -> np.ndarray:
        """See `Replicas`."""
        parts = self.strategy.experimental_local_results(array)
        own = np.concatenate([part.numpy() for part in parts])
        if self.workers == 1:
            return own
        places = np.zeros((self.workers, *own.shape), own.dtype)
        places[self.rank] = own
        return self.sums(places).reshape(-1, *own.shape[1:])

    # ---- Means and values ----------------------------------------------------------------------
    def means(self, gradients: list[Any], values: Mapping[str, Any]
              ) -> tuple[list[Any], dict[str, Any]]:
        """See `Replicas`. All numbers travel together: one exchange a step."""
        tensors = [*gradients, *values.values()]
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
        mean = _context().all_reduce(SUM, flat) / self.count
        parts = tf.split(mean, [tensor.shape.num_elements() for tensor in tensors])
        shaped = [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, tensors,
                                                                         strict=True)]
        return shaped[: len(gradients)], dict(zip(values, shaped[len(gradients):], strict=True))

    def mean(self, value: Any) -> Any:
        """See `Replicas`. Where only this process computes, it is the value itself."""
        context = _context()
        if context is None or context.num_replicas_in_sync == 1:
            return value
        return context.all_reduce(SUM, value) / self.count

    def floats(self, values: Mapping[str, Any]) -> dict[str, float]:
        """See `Replicas`."""
        return {name: float(self.first(value)) for name, value in values.items()}

    def first(self, value: Any) -> Any:
        """See `Replicas`."""
        return self.strategy.experimental_local_results(value)[0]

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """See `Replicas`. TensorFlow ends what waits for a worker that sends no sign of life.

        Raises:
            TrainingError: When a worker is gone.
        """
        try:
            yield
        except GONE as error:
            if self.workers == 1:
                raise
            atexit.register(_leave)
            tasks = re.findall(r"/task:(\d+)", error.message.partition("unhealthy")[2])
            which = f"worker {', '.join(dict.fromkeys(tasks))}" if tasks else "another worker"
            raise TrainingError(
                f"{which} is gone, so worker {self.rank} ends too",
                "what it says for itself tells why; the same command on all workers, or on fewer, "
                "goes on from the last checkpoint") from error

    # ---- Between workers -----------------------------------------------------------------------
    def from_chief(self, decide: Callable[[], Any]) -> Any:
        """See `Replicas`."""
        if self.workers == 1:
            return decide()
        decision: dict[str, Any] = {}
        if self.chief:
            try:
                decision = {"answer": decide()}
            except GanDenoiseError as error:
                self._broadcast(json.dumps({"error": f"the chief says: {error}"}).encode())
                raise
        decision = json.loads(self._broadcast(json.dumps(decision).encode()))
        if "error" in decision:
            raise TrainingError(decision["error"])
        return decision["answer"]

    def share(self, variables: Mapping[str, Any]) -> None:
        """See `Replicas`."""
        if self.workers == 1:
            return
        values = [np.asarray(variable) for variable in variables.values()]
        data = self._broadcast(b"".join(value.tobytes() for value in values) if self.chief else b"")
        at = 0
        for variable, value in zip(variables.values(), values, strict=True):
            found = np.frombuffer(data, value.dtype, value.size, at).reshape(value.shape)
            at += value.nbytes
            if not self.chief:
                variable.assign(found)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """See `Replicas`."""
        if self.workers == 1:
            return flags
        return tuple(bool(flag) for flag in self.sums(np.array(flags, np.float32)) > 0)

    def sums(self, array: np.ndarray) -> np.ndarray:
        """See `Replicas`."""
        if self.workers == 1:
            return array
        of_others = np.zeros_like(array)
        given = self._each(lambda number: tf.constant(
            array if number == self._numbers[0] else of_others))
        return self.first(self._sum(given)).numpy()

    def _broadcast(self, data: bytes) -> bytes:
        """Return the chief's bytes, on every worker.

        They travel as float32, which every device adds up, two bytes a number: the number of
        bytes, and as many as fit; then the others.
        """
        words = np.zeros(SHORT, np.float32)
        if self.chief:
            words[:2] = divmod(len(data), 2**16)
            words[2:] = _numbers(data, SHORT - 2)
        words = self.sums(words)
        length = int(words[0]) * 2**16 + int(words[1])
        received = [words[2:]]
        for at in range(2 * (SHORT - 2), length, 2 * LONG):
            part = _numbers(data[at : at + 2 * LONG] if self.chief else b"", LONG)
            received.append(self.sums(part))
        return np.concatenate(received).astype(np.uint16).tobytes()[:length]


def _numbers(data: bytes, count: int) -> np.ndarray:
    """Return the first so many pairs of bytes as numbers, zeros behind their end."""
    data = data[: 2 * count].ljust(2 * count, b"\0")
    return np.frombuffer(data, np.uint16).astype(np.float32)


def _context() -> Any:
    return tf.distribute.get_replica_context()
