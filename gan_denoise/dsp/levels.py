"""Peaks and noise floor of a recording before and after denoising, measured block by block."""

from __future__ import annotations

import math

import numpy as np

from gan_denoise.audio import peak

FRAME_SECONDS = 0.05
QUIET = 0.1  # share of the frames, the quietest, whose largest level is the noise floor
# Levels are counted in steps between these, in dB relative to full scale. Frames below the lowest
# are digital silence and not counted.
SILENCE_DB, LOUD_DB, STEP_DB = -100.0, 20.0, 0.05
LARGEST = 1e15  # magnitude that is squared; float32 ends at 3e38


class Levels:
    """Peaks and noise floor of a recording and of its denoised output.

    The noise floor is the level of the quietest tenth of the frames of 50 ms. Memory does not grow
    with the recording: frames are counted by their level.

    Args:
        sample_rate: Sample rate in Hz.
    """

    def __init__(self, sample_rate: int):
        self._frame = max(round(FRAME_SECONDS * sample_rate), 1)
        self._rest = np.zeros((2, 0))  # power of samples that fill no frame yet, [2, samples]
        steps = round((LOUD_DB - SILENCE_DB) / STEP_DB) + 1
        self._counts = np.zeros((2, steps), np.int64)  # frames by level, [2, steps]
        self._peaks = [0.0, 0.0]

    def add(self, noisy: np.ndarray, output: np.ndarray) -> None:
        """Measure the next samples.

        Args:
            noisy: The recording, float `[channels, samples]`, full scale at +-1.
            output: The output, of the same shape.
        """
        self._peaks = [max(before, peak(block))
                       for before, block in zip(self._peaks, (noisy, output), strict=True)]
        if max(self._peaks) > LARGEST:
            noisy, output = (np.clip(block, -LARGEST, LARGEST) for block in (noisy, output))
        power = np.stack([np.mean(np.square(block), axis=0, dtype=np.float64)
                          for block in (noisy, output)])
        power = np.concatenate([self._rest, power], axis=1)
        whole = power.shape[1] - power.shape[1] % self._frame
        frames = power[:, :whole].reshape(2, -1, self._frame).mean(axis=-1)
        self._rest = power[:, whole:]
        counted = frames[:, frames[0] > 10 ** (SILENCE_DB / 10)]
        level = 10 * np.log10(np.maximum(counted, 10 ** (SILENCE_DB / 10)))
        place = np.rint((level - SILENCE_DB) / STEP_DB).astype(int)
        for counts, places in zip(self._counts, np.minimum(place, len(self._counts[0]) - 1),
                                  strict=True):
            counts += np.bincount(places, minlength=len(counts))

    @property
    def peak_in_db(self) -> float | None:
        """Largest magnitude of the recording in dB relative to full scale; None for silence."""
        return _peak_db(self._peaks[0])

    @property
    def peak_out(self) -> float:
        """Largest magnitude of the output; full scale is 1."""
        return self._peaks[1]

    @property
    def peak_out_db(self) -> float | None:
        """Largest magnitude of the output in dB relative to full scale; None for silence."""
        return _peak_db(self._peaks[1])

    @property
    def noise_floor_drop_db(self) -> float | None:
        """Noise floor of the recording less that of the output, in dB.

        None where the recording is all digital silence or shorter than a frame.
        """
        total = self._counts.sum(axis=1, keepdims=True)
        if not total.any():
            return None
        before, after = (self._counts.cumsum(axis=1) >= QUIET * total).argmax(axis=1)
        return round(STEP_DB * float(before - after), 1)


def _peak_db(magnitude: float) -> float | None:
    """Return a magnitude in dB relative to full scale, to 0.01 dB; None for zero."""
    return round(20 * math.log10(magnitude), 2) if magnitude > 0 else None
