"""Levels of a recording before and after, measured block by block."""

from __future__ import annotations

import math

import numpy as np

from gan_denoise.audio import peak

FRAME_SECONDS = 0.05
QUIET = 10  # percent of the frames, which make the noise floor
SILENCE_DB = -100.0  # frames below this are digital silence, no floor


class Levels:
    """Peaks, and the level of the quietest tenth, of a recording and of what became of it.

    Args:
        sample_rate: In Hz.
    """

    def __init__(self, sample_rate: int):
        self._frame = max(round(FRAME_SECONDS * sample_rate), 1)
        self._rest = np.zeros((2, 0))  # energy of samples that fill no frame yet
        self._energies: list[np.ndarray] = []  # of frames, [2, frames]
        self._peaks = [0.0, 0.0]

    def add(self, noisy: np.ndarray, output: np.ndarray) -> None:
        """Take the next samples of both, `[channels, samples]`."""
        self._peaks = [max(before, peak(block))
                       for before, block in zip(self._peaks, (noisy, output), strict=True)]
        energy = np.stack([np.mean(np.square(block), axis=0, dtype=np.float64)
                           for block in (noisy, output)])
        energy = np.concatenate([self._rest, energy], axis=1)
        whole = energy.shape[1] - energy.shape[1] % self._frame
        frames = energy[:, :whole].reshape(2, -1, self._frame).mean(axis=-1)
        self._energies.append(frames.astype(np.float32))
        self._rest = energy[:, whole:]

    @property
    def peak_in_db(self) -> float | None:
        """Largest magnitude of the recording in dB below full scale; None for silence."""
        return _decibel(self._peaks[0])

    @property
    def peak_out(self) -> float:
        """Largest magnitude of the output; full scale is 1."""
        return self._peaks[1]

    @property
    def peak_out_db(self) -> float | None:
        """The same in dB below full scale; None for silence."""
        return _decibel(self._peaks[1])

    @property
    def noise_floor_drop_db(self) -> float | None:
        """By how many dB the quietest tenth of the recording went down.

        None where all of it is digital silence or shorter than a frame.
        """
        energies = np.concatenate(self._energies, axis=1) if self._energies else self._rest[:, :0]
        heard = energies[:, energies[0] > 10 ** (SILENCE_DB / 10)]
        if not heard.shape[1]:
            return None
        before, after = np.percentile(heard, QUIET, axis=1)
        return round(10 * math.log10(before / max(after, 10 ** (SILENCE_DB / 10))), 1)


def _decibel(magnitude: float) -> float | None:
    return round(20 * math.log10(magnitude), 2) if magnitude > 0 else None
