"""PESQ as a teacher: scores of clips from processes beside the training, and a memory of them."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gan_denoise.core.processes import ProcessPool

LOWEST, HIGHEST = 1.0, 4.64  # of wide-band PESQ: mapped to 0 and 1


class Scorer(Protocol):
    """Scores estimates for a metric discriminator."""

    def scores(self, clean: np.ndarray, estimate: np.ndarray) -> np.ndarray:
        """See `PesqScorer`."""

    def close(self) -> None:
        """See `PesqScorer`."""


class PesqScorer:
    """Computes PESQ, in processes that start with the first clips.

    Args:
        sample_rate: Sample rate of the clips in Hz; 16000.
        workers: Number of processes.
    """

    def __init__(self, sample_rate: int, workers: int):
        self._sample_rate, self._workers = sample_rate, workers
        self._pool: ProcessPool | None = None

    def scores(self, clean: np.ndarray, estimate: np.ndarray) -> np.ndarray:
        """Return PESQ mapped to [0, 1], float32 `[clips]`; NaN where PESQ finds no speech.

        Args:
            clean: Waveforms `[clips, samples]`.
            estimate: The same.

        Raises:
            ProcessDied: When a process ends on the way.
        """
        if self._pool is None:
            self._pool = ProcessPool(self._workers, "computing PESQ",
                                     "lower discriminator.pesq_workers")
        rates = [self._sample_rate] * len(clean)
        return np.float32(list(self._pool.map(_score, clean, estimate, rates)))

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _score(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    from gan_denoise import metrics

    try:
        value = metrics.pesq_wb(clean, estimate, sample_rate)
    except metrics.Refused:
        return float("nan")
    return (value - LOWEST) / (HIGHEST - LOWEST)


