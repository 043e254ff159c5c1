"""Two signals read side by side, block by block, and what is added up over them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gan_denoise.metrics.registry import Refused
from gan_denoise.metrics.signal_files import BLOCK, Signal


class ErrorSums:
    """What MSE, PSNR and SNR are made of, added up part by part.

    Attributes:
        count: Values compared.
        energy: Sum of the clean ones' squares.
        error: Sum of the squared differences.
    """

    def __init__(self) -> None:
        self.count, self.energy, self.error = 0, 0.0, 0.0

    @classmethod
    def between(cls, clean: Any, estimate: Any) -> ErrorSums:
        """Return the sums over two signals or mels of equal shape."""
        sums = cls()
        for pair in paired_blocks(*as_pair(clean, estimate)):
            sums.add(*pair)
        return sums

    def add(self, clean: np.ndarray, estimate: np.ndarray) -> None:
        """Take the next values of both, of equal shape."""
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
        """Peak signal-to-noise ratio in dB, peak 1; inf where they are equal."""
        return decibel(1.0, self.mse)

    @property
    def snr(self) -> float:
        """Ratio of the energies of clean and error in dB; inf where they are equal.

        Raises:
            Refused: The clean one is zero throughout.
        """
        if not self.energy:
            raise Refused("clean is silent")
        return decibel(self.energy, self.error)


def as_pair(clean: Any, estimate: Any) -> tuple[Any, Any]:
    """Return both as arrays or signals of one shape."""
    clean, estimate = (x if isinstance(x, Signal) else np.asarray(x) for x in (clean, estimate))
    if clean.shape != estimate.shape:
        raise ValueError(f"clean is {clean.shape}, estimate is {estimate.shape}")
    if 0 in clean.shape:
        raise Refused("empty")
    return clean, estimate


def float64(signal: Any, place: slice) -> np.ndarray:
    return np.asarray(signal[place], np.float64)


def paired_blocks(clean: Any, estimate: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield both as finite float64, block by block."""
    for start in range(0, len(clean), BLOCK):
        pair = [float64(signal, slice(start, start + BLOCK)) for signal in (clean, estimate)]
        for block, name in zip(pair, ("clean", "estimate"), strict=True):
            if not np.all(np.isfinite(block)):
                raise ValueError(f"{name} holds NaN or infinite values")
        yield tuple(pair)


def equal_parts(samples: int, count: int) -> Iterator[slice]:
    """Yield places of parts whose lengths differ by one sample at most, the longer ones first."""
    length, longer = divmod(samples, count)
    for number in range(count):
        start = number * length + min(number, longer)
        yield slice(start, start + length + (number < longer))


def require_sound(clean: Any, estimate: Any) -> float:
    """Return the clean clip's peak, where both are finite and it is not silent."""
    peak = max(float(np.max(np.abs(block))) for block, _ in paired_blocks(clean, estimate))
    if not peak:
        raise Refused("clean is silent")
    return peak


class UnitSignal:
    """A signal without its mean, at energy 1, read by blocks."""

    def __init__(self, signal: Any, name: str):
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
        """Return `[start, stop)`, zeros before the beginning; what is behind the end is left out.

        Raises:
            ValueError: For samples that are not finite.
        """
        inside = float64(self._signal, slice(max(start, 0), stop))
        if not np.all(np.isfinite(inside)):
            raise ValueError(f"{self._name} holds NaN or infinite values")
        inside = (inside - self._mean) / self._peak / math.sqrt(self._energy)
        return np.pad(inside, (max(-start, 0), 0)) if start < 0 else inside


def unit_blocks(units: tuple[UnitSignal, UnitSignal]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return zip(*units, strict=True)


def peak_of(block: np.ndarray) -> float:
    return float(np.max(np.abs(block)))


def decibel(signal: float, error: float) -> float:
    if error == 0:
        return math.inf
    return 10 * math.log10(signal / error) if signal > 0 else -math.inf
