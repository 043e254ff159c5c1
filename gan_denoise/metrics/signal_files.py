"""Signals of one channel in files, so that a recording of any length is scored in little memory.

A signal is read in slices, of which memory holds one at a time. Functions that take a signal take
an array as well.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gan_denoise.core.errors import GanDenoiseError

BLOCK = 2**18  # samples read at once: 16 s at 16 kHz, whole files of the usual benchmarks


class SignalError(GanDenoiseError):
    """A signal cannot be stored."""


@dataclass(frozen=True)
class Signal:
    """A signal `[samples]` in a file; a slice of it is read as an array.

    Attributes:
        path: File of raw float32 samples.
        samples: Length of the signal; the file may hold more.
        gain: Factor that is applied to what is read.
    """

    path: Path
    samples: int
    gain: float = 1.0

    @property
    def shape(self) -> tuple[int]:
        """The shape of the signal as an array, `(samples,)`."""
        return (self.samples,)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, place: slice) -> np.ndarray:
        """Return the samples of a slice without step, float32 `[samples]`."""
        start, stop, _ = place.indices(self.samples)
        block = np.fromfile(self.path, np.float32, max(stop - start, 0), offset=4 * start)
        return block if self.gain == 1.0 else np.float32(self.gain) * block

    def first(self, samples: int) -> Signal:
        """Return the first samples as a signal."""
        return replace(self, samples=min(samples, self.samples))

    def at_gain(self, gain: float) -> Signal:
        """Return the signal times a gain."""
        return replace(self, gain=self.gain * gain)


def store(path: Path, parts: Iterable[np.ndarray]) -> Signal:
    """Write parts `[samples]` one after another, as float32.

    Raises:
        SignalError: When they do not fit on the disk.
    """
    samples = 0
    try:
        with path.open("wb") as file:
            for part in parts:
                np.ascontiguousarray(part, np.float32).tofile(file)
                samples += len(part)
    except OSError as error:
        if error.errno not in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        # `tofile` tells by None and words that it wrote less than it should.
        raise SignalError(
            f"{path.parent}: cannot hold {4 * samples / 2**20:,.0f} MiB and more ({error})",
            "evaluate keeps a recording there while it is scored: set TMPDIR to a folder with room"
        ) from error
    return Signal(path, samples)


def blocks(signal: Signal | np.ndarray, size: int = 0) -> Iterator[np.ndarray]:
    """Yield a signal in blocks of `size` samples, or of `BLOCK` where that is 0."""
    size = size or BLOCK
    for start in range(0, len(signal), size):
        yield signal[start : start + size]


def resampled(
    signal: Signal | np.ndarray, rate_in: int, rate_out: int, length: int | None = None
) -> Iterator[np.ndarray]:
    """Resample block by block; together the blocks equal `audio.resample` of the whole.

    Args:
        signal: `[samples]`.
        rate_in: Rate of the signal in Hz.
        rate_out: Rate of the result in Hz.
        length: Length of the result in samples; None: samples * rate_out / rate_in, rounded.

    Yields:
        float32 `[samples]`.
    """
    import soxr

    stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")
    left = round(len(signal) * rate_out / rate_in) if length is None else length
    for start in range(0, len(signal), BLOCK):
        block = np.asarray(signal[start : start + BLOCK], np.float32)
        part = stream.resample_chunk(block, last=start + BLOCK >= len(signal))[:left]
        left -= len(part)
        yield part
    yield np.zeros(left, np.float32)
