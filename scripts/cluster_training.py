"""What a training step costs on one core, what more workers make of it, and whether it is so.

A step has a part that is shared out (networks, mixing), one that each worker takes whatever its
share (updates, averages, calls), and messages: the gradients, and the statistics of each batch
norm, forward and backward. All are CPU seconds of one core.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import clocked_training
import numpy as np
from cluster_costs import timed
from cluster_simulation import all_reduce_seconds

from gan_denoise.training.worker_processes import (
    MULTI_WORKER,
    Line,
    WorkerProcess,
    follow,
    free_ports,
)

LINKS = {"10 Gbit/s, 50 us": (1.25e9, 50e-6), "1 Gbit/s, 100 us": (1.25e8, 100e-6)}
STEPS = 10  # that are measured, after as many that are not
EXCHANGES = 20  # one after another
NORM_EXCHANGES = 5  # Keras sums values, squares and their number, and two gradients, one by one
CHECK_STEPS = 60  # of a training; the first STEPS of them are not measured


@dataclass(frozen=True)
class StepCosts:
    """Figures of a training step.

    Attributes:
        fixed: CPU seconds that a worker takes whatever its share of the batch.
        compute: CPU seconds of the rest for the whole batch, without its input.
        input: CPU seconds of mixing the batch.
        exchanges: Number of small arrays whose sum all workers wait for.
        message: CPU seconds of a worker for one small message, sent and received.
        byte: The same of each byte of a large one.
        gradient_bytes: Size of the gradients, float32.
        audio: Seconds of audio in a batch.
    """

    fixed: float
    compute: float
    input: float
    exchanges: int
    message: float
    byte: float
    gradient_bytes: int
    audio: float

    def seconds(self, workers: int, bandwidth: float, latency: float) -> float:
        """Return the time of a step of one global batch.

        A ring of N workers adds up an array in 2 (N - 1) messages.

        Args:
            workers: Number of workers N, each with an equal share of the batch.
            bandwidth: Bytes a second of each worker's link.
            latency: Seconds of one message between workers.
        """
        sent = 2 * (workers - 1)
        messages = sent * ((self.exchanges + 1) * self.message
                           + self.gradient_bytes / workers * self.byte)
        waiting = (all_reduce_seconds(workers, self.gradient_bytes, bandwidth, latency)
                   + self.exchanges * all_reduce_seconds(workers, 0, bandwidth, latency))
        work = self.fixed + (self.compute + self.input) / workers
        return work + messages + waiting


def table(config: str, settings: Sequence[str], counts: Sequence[int]) -> None:
    """Measure a pretraining step and print what more workers make of it."""
    step = measure(config, settings)
    print(f"one core: network {step.compute:.3f} s and {step.fixed:.3f} s whatever the batch, "
          f"mixing {step.input:.3f} s for a batch of {step.audio:g} s; gradients "
          f"{step.gradient_bytes / 1e6:.1f} MB, {step.exchanges} small sums, "
          f"{1e3 * step.message:.2f} ms a message and {1e9 * step.byte:.1f} ms a megabyte of it")
    print(f"{'workers':>9}" + "".join(f"{name:>20}{'of ideal':>10}" for name in LINKS))
    alone = step.seconds(1, 1.0, 0.0)
    for count in counts:
        row = f"{count:>9}"
        for link in LINKS.values():
            seconds = step.seconds(count, *link)
            row += f"{step.audio / seconds:>14,.0f} x r.t.{alone / count / seconds:>9.0%} "
        print(row)


# ---- Measured on one core ----------------------------------------------------------------------
def measure(config: str, settings: Sequence[str], busy: int = 1) -> StepCosts:
    """Measure a pretraining step of a config.

    Args:
        config: Its name or file.
        settings: Speech, noise and what else differs.
        busy: Cores that do the same at once, each for itself: what they share (memory, a cache, the
            halves of a core) makes a step dearer. Means of them are returned.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(busy, maxtasksperchild=1) as pool:
        steps = pool.starmap(_step, [(config, settings, core) for core in _cores(busy)],
                             chunksize=1)
    message, byte = _message(context, steps[0].gradient_bytes)
    means = {name: statistics.fmean(getattr(step, name) for step in steps)
             for name in ("fixed", "compute", "input")}
    return replace(steps[0], **means, message=message, byte=byte)


def _cores(count: int) -> list[int]:
    """Return a core of this machine for each of so many processes, in turn."""
    cores = sorted(os.sched_getaffinity(0))
    return [cores[index % len(cores)] for index in range(count)]


def _step(config_name: str, settings: Sequence[str], core: int) -> StepCosts:
    """Return the figures of a step on a core, but for its messages.

    What does not depend on the batch is told by quarters of it, in turn with whole ones.
    """
    os.sched_setaffinity(0, {core})  # before TensorFlow counts the cores
    from gan_denoise.core.native_libraries import load_tensorflow

    load_tensorflow()
    import keras

    from gan_denoise.config import load_config
    from gan_denoise.data.datasets import load_material
    from gan_denoise.training.trainer import Trainer, set_up

    config = load_config(config_name, [*settings, "training.threads=1"])
    set_up(config.training)
    material, batch = load_material(config), config.training.batch_size
    trainer = Trainer(config, material)
    trainer.progress.total_steps = 2 * STEPS
    inputs, wholes, parts, quarter = [], [], [], max(batch // 4, 1)
    for step in range(2 * STEPS):
        (noisy, clean), seconds = timed(lambda: material.train.batch(step, batch))  # noqa: B023
        inputs.append(seconds)
        for items, found in ((batch, wholes), (quarter, parts)):
            arrays = noisy[:items], clean[:items]
            found.append(timed(lambda: trainer.train_step(step, *arrays))[1])  # noqa: B023
    whole, part = statistics.median(wholes[STEPS:]), statistics.median(parts[STEPS:])
    compute = (whole - part) * batch / (batch - quarter)
    weights = trainer.generator.trainable_weights
    norms = sum(isinstance(layer, keras.layers.BatchNormalization)
                for layer in trainer.generator.layers)
    return StepCosts(
        fixed=whole - compute, compute=compute,
        input=statistics.median(inputs[STEPS:]),
        exchanges=NORM_EXCHANGES * norms + 1,  # and whether all go on
        message=0.0, byte=0.0,
        gradient_bytes=4 * sum(int(np.prod(weight.shape)) for weight in weights),
        audio=batch * config.training.crop_seconds)


def _message(context: Any, size: int) -> tuple[float, float]:
    """Return the CPU seconds of a small message between two workers here, and of a byte more."""
    hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with context.Pool(2, maxtasksperchild=1) as pool:
        small, large = np.mean(pool.starmap(
            _exchanges, [(hosts, index, size) for index in range(2)], chunksize=1), axis=0)
    return small / 2, (large - small) / size  # two messages an exchange, of a half each


def _exchanges(hosts: Sequence[str], index: int, size: int) -> tuple[float, float]:
    """Return the CPU seconds of a worker in an exchange of a small array and of so many bytes."""
    os.sched_setaffinity(0, _cores(2)[index:index + 1])
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": list(hosts)}, "task": {"type": "worker", "index": index}})
    from gan_denoise.core.native_libraries import load_tensorflow

    load_tensorflow()
    import tensorflow as tf

    from gan_denoise.config import load_config
    from gan_denoise.training.distributed import make_replicas
    from gan_denoise.training.trainer import set_up

    training = load_config("debug", ["training.strategy=multi_worker"]).training
    set_up(training)
    replicas = make_replicas(training)

    def exchanges(array: Any) -> Any:
        for _ in range(EXCHANGES):
            array = replicas.mean(array + 1.0)
        return tf.reduce_sum(array)

    found = []
    for numbers in (64, size // 4):
        run, (array,) = replicas.function(exchanges), replicas.split(
            np.zeros((1, numbers), np.float32))
        run(array)
        found.append(statistics.median(timed(lambda: replicas.floats({"sum": run(array)}))[1]  # noqa: B023
                                       for _ in range(STEPS)) / EXCHANGES)
    return found[0], found[1]


# ---- Predicted and measured --------------------------------------------------------------------
def check(config: str, settings: Sequence[str], counts: Sequence[int], rounds: int) -> None:
    """Predict a step's work for several numbers of workers, train with them, and print both.

    Compared are the CPU seconds of one worker in one step: the time that a step would take with a
    core for each worker and links that take none. Each worker keeps to one core, and what is
    predicted is measured with as many cores at work.

    Args:
        config: Settings of a pretraining.
        settings: Speech, noise and what else differs; the batch has to divide among the workers.
        counts: Numbers of workers.
        rounds: How often, in turn; medians are shown.
    """
    predicted: dict[int, list[float]] = {count: [] for count in counts}
    measured: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:  # a prediction for each, beside it: the clock of a core swings
            step = measure(config, settings, min(count, len(os.sched_getaffinity(0))))
            predicted[count].append(step.seconds(count, float("inf"), 0.0))
            measured[count].append(training_step(config, settings, count))
    print(f"{'workers':>7}{'predicted':>11}{'measured':>10}{'off by':>8}  CPU seconds of a step")
    for count in counts:
        expected, found = map(statistics.median, (predicted[count], measured[count]))
        print(f"{count:>7}{expected:>11.3f}{found:>10.3f}{expected / found - 1:>+8.0%}")


def training_step(config: str, settings: Sequence[str], count: int) -> float:
    """Train with some workers; return the CPU seconds of one of them in a step, mixing included."""
    clocks: list[dict[int, float]] = [{} for _ in range(count)]

    def show(worker: int, line: Line) -> None:
        if line.text.startswith(clocked_training.CLOCK):
            step, seconds = line.text.removeprefix(clocked_training.CLOCK).split()
            clocks[worker][int(step)] = float(seconds)

    hosts = [f"127.0.0.1:{port}" for port in free_ports(count)]
    allowed = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="cluster-training-") as out:
        command = ["pretrain", "--run", os.path.join(out, "run"), "--config", config, *settings,
                   f"training.steps={CHECK_STEPS + 1}", "training.validate_every=1000",
                   "training.threads=1", "training.warmup_steps=1", "data.valid_clips=2",
                   MULTI_WORKER]
        workers = []
        for index, core in enumerate(_cores(count)):
            os.sched_setaffinity(0, {core})  # is that of a process that begins, too
            workers.append(WorkerProcess(command, hosts, index, clocked_training.__name__))
            os.sched_setaffinity(0, allowed)
        follow(workers, show)
    windows = [clock[first + STEPS] - clock[first] for clock in clocks
               for first in range(STEPS, CHECK_STEPS, STEPS)]
    return statistics.median(windows) / STEPS
