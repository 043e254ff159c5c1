"""Pairs of signals read block by block, and sums over them that metrics are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.core.decibels import power_to_db
from gan_denoise.metrics.registry import Refused
from gan_denoise.metrics.signal_files import BLOCK, Signal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class ErrorSums:
    """The sums that MSE, PSNR and SNR are computed from, added up part by part.

    Attributes:
        count: Number of values compared.
        energy: Sum of the squared clean values.
        error: Sum of the squared differences.
    """

    def __init__(self) -> None:
        self.count, self.energy, self.error = 0, 0.0, 0.0

    @classmethod
    def between(cls, clean: ArrayLike | Signal, estimate: ArrayLike | Signal) -> ErrorSums:
        """Return the sums over two signals or mels of equal shape."""
        sums = cls()
        for pair in paired_blocks(*as_pair(clean, estimate)):
            sums.add(*pair)
        return sums

    def add(self, clean: np.ndarray, estimate: np.ndarray) -> None:
        """Add the next values of both, of equal shape."""
        clean = np.asarray(clean, np.float64)
        self.count += clean.size
        self.energy += float(np.sum(clean**2))
        self.error += float(np.sum((clean - estimate) ** 2))

    @property
    def mse(self) -> float:
        """Mean squared error."""
        return self.error / self.count

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB for a peak of 1; inf where both are equal."""
        return ratio_db(1.0, self.mse)

    @property
    def snr(self) -> float:
        """Ratio of the energies of clean and error in dB; inf where both are equal.

        Raises:
            Refused: The clean values are all zero.
        """
        if not self.energy:
            raise Refused("clean is silent")
        return ratio_db(self.energy, self.error)


def as_pair(
    clean: ArrayLike | Signal, estimate: ArrayLike | Signal
) -> tuple[np.ndarray | Signal, np.ndarray | Signal]:
    """Return both as arrays or signals.

    Raises:
        ValueError: When their shapes differ.
        Refused: When they are empty.
    """
    clean, estimate = (x if isinstance(x, Signal) else np.asarray(x) for x in (clean, estimate))
    if clean.shape != estimate.shape:
        raise ValueError(f"clean is {clean.shape}, estimate is {estimate.shape}")
    if 0 in clean.shape:
        raise Refused("empty")
    return clean, estimate


def float64(signal: np.ndarray | Signal, place: slice) -> np.ndarray:
    """Return a slice of an array or a `Signal` as float64."""
    return np.asarray(signal[place], np.float64)


def paired_blocks(
    clean: np.ndarray | Signal, estimate: np.ndarray | Signal
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield both as float64, block by block.

    Raises:
        ValueError: For values that are not finite.
    """
    for start in range(0, len(clean), BLOCK):
        pair = [float64(signal, slice(start, start + BLOCK)) for signal in (clean, estimate)]
        for block, name in zip(pair, ("clean", "estimate"), strict=True):
            if not np.all(np.isfinite(block)):
                raise ValueError(f"{name} holds NaN or infinite values")
        yield pair[0], pair[1]


def equal_parts(samples: int, count: int) -> Iterator[slice]:
    """Yield slices of parts whose lengths differ by one sample at most, the longer ones first."""
    length, longer = divmod(samples, count)
    for number in range(count):
        start = number * length + min(number, longer)
        yield slice(start, start + length + (number < longer))


def require_sound(clean: np.ndarray | Signal, estimate: np.ndarray | Signal) -> float:
    """Return the clean clip's peak.

    Raises:
        Refused: When the clean clip is silent.
        ValueError: When either clip has values that are not finite.
    """
    peak = max(float(np.max(np.abs(block))) for block, _ in paired_blocks(clean, estimate))
    if not peak:
        raise Refused("clean is silent")
    return peak


class UnitSignal:
    """A signal with its mean removed and scaled to energy 1, read block by block.

    Args:
        signal: `[samples]`, an array or a `Signal`.
        name: Name of the signal in errors.

    Raises:
        Refused: When it is constant.
        ValueError: For samples that are not finite.
    """

    def __init__(self, signal: np.ndarray | Signal, name: str):
        self._signal, self._name = signal, name
        self._peak = self._energy = 1.0
        self._mean = 0.0
        peak = max(map(peak_of, self))
        self._mean = math.fsum(float(np.sum(block)) for block in self) / len(signal)
        # What rounding leaves of a constant:
        if max(map(peak_of, self)) <= 1e-12 * peak:
            raise Refused(f"{name} is silent")
        self._peak = peak  # squares of the faintest signals would underflow
        self._energy = math.fsum(float(np.sum(block**2)) for block in self)

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._signal), BLOCK):
            yield self.block(start, start + BLOCK)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the samples `[start, stop)`, zeros before the beginning; it ends with the signal.

        Raises:
            ValueError: For samples that are not finite.
        """
        inside = float64(self._signal, slice(max(start, 0), stop))
        if not np.all(np.isfinite(inside)):
            raise ValueError(f"{self._name} holds NaN or infinite values")
        inside = (inside - self._mean) / self._peak / math.sqrt(self._energy)
        return np.pad(inside, (-start, 0)) if start < 0 else inside


def unit_blocks(units: tuple[UnitSignal, UnitSignal]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the blocks of two signals of one length side by side."""
    return zip(*units, strict=True)


def peak_of(block: np.ndarray) -> float:
    """Return the largest magnitude of a block."""
    return float(np.max(np.abs(block)))


def ratio_db(signal: float, error: float) -> float:
    """Return a ratio of energies in dB; inf for no error, -inf for no signal."""
    if error == 0:
        return math.inf
    return power_to_db(signal / error)
