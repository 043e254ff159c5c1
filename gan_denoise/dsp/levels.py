"""Levels of a recording before and after, measured block by block."""

from __future__ import annotations

import math

import numpy as np

from gan_denoise.audio import peak

FRAME_SECONDS = 0.05
QUIET = 0.1  # of the frames make the noise floor
SILENCE_DB, LOUD_DB, STEP_DB = -100.0, 20.0, 0.05  # below: digital silence, which is no floor


class Levels:
    """Peaks, and the level of the quietest tenth, of a recording and of what became of it.

    Memory does not grow with the recording: levels of frames are counted, not kept.

    Args:
        sample_rate: In Hz.
    """

    def __init__(self, sample_rate: int):
        self._frame = max(round(FRAME_SECONDS * sample_rate), 1)
        self._rest = np.zeros((2, 0))  # energy of samples that fill no frame yet
        steps = round((LOUD_DB - SILENCE_DB) / STEP_DB) + 1
        self._counts = np.zeros((2, steps), np.int64)  # of frames by their level
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
        self._rest = energy[:, whole:]
        heard = frames[:, frames[0] > 10 ** (SILENCE_DB / 10)]
        level = 10 * np.log10(np.maximum(heard, 10 ** (SILENCE_DB / 10)))
        place = np.rint((level - SILENCE_DB) / STEP_DB).astype(int)
        for counts, places in zip(self._counts, np.minimum(place, len(self._counts[0]) - 1),
                                  strict=True):
            counts += np.bincount(places, minlength=len(counts))

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
        total = self._counts.sum(axis=1, keepdims=True)
        if not total.any():
            return None
        before, after = (self._counts.cumsum(axis=1) >= QUIET * total).argmax(axis=1)
        return round(STEP_DB * float(before - after), 1)


def _decibel(magnitude: float) -> float | None:
    return round(20 * math.log10(magnitude), 2) if magnitude > 0 else None
