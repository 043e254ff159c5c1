"""PESQ as a teacher: scores of clips from processes beside the training, and a memory of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

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


