"""Speed of a training step on this machine, beside that of the machine's matrix product.

Batches are made up and lie in memory: the time that mixing takes is what a run shows as "waiting
for data".
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from gan_denoise.config.schema import Config
from gan_denoise.core.machine import machine
from gan_denoise.data.datasets import Material
from gan_denoise.data.validation_clips import ValidationClips
from gan_denoise.models.complexity import macs_per_frame
from gan_denoise.training.replicas import graph
from gan_denoise.training.trainer import Trainer, set_up

WARM, SIZE = 3, 2048  # steps not counted; rows of the matrices whose product is the peak
PASSES = 3  # forward, and the gradients of weights and of activations: as much work each


def measure_training(config: Config, steps: int = 20) -> dict[str, object]:
    """Time pretraining steps on this machine.

    Args:
        config: Settings of the run.
        steps: Steps timed, of which the median is taken.

    Returns:
        Figures by name: seconds of audio in a second, milliseconds of a step and of the network's
        part of it, GFLOP/s of each, and of the machine's matrix product (float32, all threads).
    """
    set_up(config.training)
    shape = (config.training.batch_size, *config.crop_shape)
    rng = np.random.default_rng(0)
    clean = rng.uniform(-0.1, 0.1, shape).astype(np.float32)
    noisy = clean + rng.uniform(-0.1, 0.1, shape).astype(np.float32)
    trainer = Trainer(config, Material(None, ValidationClips(noisy[:1], clean[:1]), "", "noise"))
    trainer.progress.total_steps = WARM + steps
    mels = tf.constant(trainer.mel.mel01(noisy) if config.data.has_waveforms else noisy)

    @graph
    def gradient() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            total = tf.reduce_mean(trainer.generator(mels, training=True))
        return tape.gradient(total, trainer.generator.trainable_variables)

    matrix = tf.random.normal((SIZE, SIZE))
    product = graph(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    numbers = iter(range(WARM + steps))
    step = _median(lambda: trainer.train_step(next(numbers), noisy, clean), steps)
    network = _median(gradient, steps)
    peak = 2 * SIZE**3 / _median(lambda: product().numpy(), steps) / 1e9
    work = 2 * PASSES * macs_per_frame(trainer.generator) * mels.shape[0] * mels.shape[1] / 1e9
    return {
        "audio_seconds_per_second": round(shape[0] * config.training.crop_seconds / step, 1),
        "step_ms": round(1e3 * step, 1),
        "network_ms": round(1e3 * network, 1),
        "step_gflops": round(work / step, 1),
        "network_gflops": round(work / network, 1),
        "peak_gflops": round(peak, 1),
        "machine": machine(),
    }


def _median(work: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(WARM + runs):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[WARM:])
