"""Augmentation by filtering: reverberation, random smooth equalisers, coloured noise."""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

SLOPES = (-2.0, 0.5)  # power of frequency that coloured noise goes with: brown to light blue
KNOTS = 7  # of a random filter, an octave apart, the highest at half the sample rate
LOWEST_HZ = 20.0  # below, coloured noise rises no further
RESPONSE_SECONDS = 0.03  # a random filter's response is shorter than this


def reverberate(speech: np.ndarray, response: np.ndarray, early: int
                ) -> tuple[np.ndarray, np.ndarray]:
    """Put speech into a room, without the delay of the direct path.

    Args:
        speech: float32 [samples].
        response: Room impulse response, float32 [taps]; its largest sample is the direct path.
        early: Samples after the direct path that belong to the target.

    Returns:
        (reverberant, target): speech through the whole response and through its early part, float32
        [samples] each, both aligned with `speech`.
    """
    samples = len(speech)
    direct = int(np.argmax(np.abs(response)))
    response = response[direct:direct + samples]
    size = fast_length(samples + len(response))
    spectrum = fft.rfft(speech, size)
    reverberant = fft.irfft(spectrum * fft.rfft(response, size), size)
    target = fft.irfft(spectrum * fft.rfft(response[:early + 1], size), size)
    return reverberant[:samples], target[:samples]


class RandomFilter:
    """Random smooth zero-phase filters, and noise coloured by them.

    Args:
        samples: Length of what is filtered.
        sample_rate: Hz.
        largest_db: Largest gain and cut of a filter.
    """

    def __init__(self, samples: int, sample_rate: int, largest_db: float) -> None:
        self.samples, self.sample_rate = samples, sample_rate
        self._size = fast_length(samples + round(RESPONSE_SECONDS * sample_rate))
        self._range = largest_db * math.log(10) / 20  # nepers
        hertz = fft.rfftfreq(self._size, 1 / sample_rate)
        self._log_hertz = np.log(np.maximum(hertz, LOWEST_HZ)).astype(np.float32)
        # Position of each bin among the knots; a smooth step between two of them.
        octaves = np.log2(np.maximum(hertz, 1.0) / (sample_rate / 2)) + KNOTS - 1
        place = np.clip(octaves, 0.0, KNOTS - 1 - 1e-6)
        self._knot = place.astype(np.intp)
        share = place - self._knot
        self._share = (share * share * (3.0 - 2.0 * share)).astype(np.float32)

    def equalise(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return float32 [samples] through a random filter."""
        spectrum = fft.rfft(audio, self._size)
        spectrum *= np.exp(self._curve(rng))
        return fft.irfft(spectrum, self._size)[:self.samples]

    def coloured(self, rng: np.random.Generator) -> np.ndarray:
        """Return noise of a random spectral slope through a random filter, float32 [samples]."""
        curve = self._curve(rng)
        curve += self._log_hertz * np.float32(rng.uniform(*SLOPES) / 2)
        # Even random numbers are 4 times faster than normal ones; their transform is normal.
        parts = rng.integers(-32767, 32768, 2 * len(curve), dtype=np.int16).astype(np.float32)
        spectrum = parts.view(np.complex64)
        spectrum *= np.exp(curve)
        spectrum[0] = 0.0
        return fft.irfft(spectrum, self._size)[:self.samples]

    def _curve(self, rng: np.random.Generator) -> np.ndarray:
        """Return log gains, float32 [bins]."""
        knots = rng.uniform(-self._range, self._range, KNOTS).astype(np.float32)
        curve = np.diff(knots)[self._knot]
        curve *= self._share
        curve += knots[self._knot]
        return curve


def fast_length(samples: int) -> int:
    """Return a length with many factors of two: twice as fast as the next fast length."""
    return 256 * fft.next_fast_len(-(-samples // 256), real=True)
