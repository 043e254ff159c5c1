"""PESQ as a teacher: scores of clips from processes beside the training, and a memory of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from gan_denoise.core.processes import depend_on_the_parent

LOWEST, HIGHEST = 1.0, 4.64  # of wide-band PESQ: mapped to 0 and 1


class Judge:
    """Computes PESQ, in processes that start with the first clips.

    Args:
        sample_rate: Of the clips, in Hz; 16000.
        workers: Processes.
    """

    def __init__(self, sample_rate: int, workers: int):
        self._sample_rate, self._workers = sample_rate, workers
        self._pool: ProcessPoolExecutor | None = None

    def scores(self, clean: Sequence[np.ndarray], estimate: Sequence[np.ndarray]) -> np.ndarray:
        """Return PESQ mapped to [0, 1], float32 `[clips]`; NaN where PESQ finds no speech.

        Args:
            clean: Waveforms `[clips, samples]`.
            estimate: The same.
        """
        if self._pool is None:
            # Not forked: a fork of a process with TensorFlow's threads may hang.
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._workers, mp_context=spawn, initializer=depend_on_the_parent
            )
        rates = [self._sample_rate] * len(clean)
        return np.float32(list(self._pool.map(_score, clean, estimate, rates)))

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _score(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    from gan_denoise import metrics

    try:
        value = metrics.pesq_wb(clean, estimate, sample_rate)
    except metrics.Refused:
        return float("nan")
    return (value - LOWEST) / (HIGHEST - LOWEST)


class Replay:
    """Past estimates with their scores, the oldest replaced first; part of a checkpoint.

    A discriminator that sees only the newest estimates forgets what worse ones sound like.

    Args:
        size: Clips kept.
        frames: Of a clip.
        bands: Of a mel.
    """

    def __init__(self, size: int, frames: int, bands: int):
        import tensorflow as tf

        def variable(name: str, shape: tuple[int, ...], kind: Any) -> Any:
            return tf.Variable(np.zeros(shape, kind), trainable=False, name=name)

        # Half precision: a thousandth of mel01, 0.1 dB.
        self.clean = variable("clean", (size, frames, bands), np.float16)
        self.candidate = variable("candidate", (size, frames, bands), np.float16)
        self.score = variable("score", (size,), np.float32)
        self.count = variable("count", (), np.int64)
        self.variables = [self.clean, self.candidate, self.score, self.count]

    def add(self, clean: np.ndarray, candidate: np.ndarray, score: np.ndarray) -> None:
        """Keep clips `[clips, frames, bands]` with their scores `[clips]`."""
        import tensorflow as tf

        size, count = self.score.shape[0], int(self.count)
        places = (np.arange(len(score)) + count) % size
        for variable, values in ((self.clean, clean), (self.candidate, candidate),
                                 (self.score, score)):
            variable.scatter_nd_update(places[:, None], tf.cast(values, variable.dtype))
        self.count.assign(count + len(score))

    def draw(self, clips: int, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        """Return (clean, candidate, score) of clips drawn at random.

        Before there are any, the scores are NaN.
        """
        import tensorflow as tf

        kept = min(int(self.count), self.score.shape[0])
        places = rng.integers(max(kept, 1), size=clips)
        drawn = [tf.cast(tf.gather(variable, places), tf.float32)
                 for variable in (self.clean, self.candidate, self.score)]
        if not kept:
            drawn[2] = tf.fill([clips], float("nan"))
        return tuple(drawn)
