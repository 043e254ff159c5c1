"""STOI and ESTOI of long recordings in constant memory; the scores equal those of `pystoi`.

The steps are those of `pystoi`, with its own resampler, transform, band matrix and constants, over
blocks. `pystoi` itself keeps every segment of 0.4 s at once: a gigabyte for ten minutes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gan_denoise.metrics.signal_files import Signal

FILTER_REACH = 40  # of pystoi's resampler, in samples of the lower rate; 36.3 by its design


def stoi_in_blocks(
    clean: np.ndarray | Signal, estimate: np.ndarray | Signal, sample_rate: int, extended: bool,
    gain: float, size: int,
) -> float | None:
    """Return STOI (Taal et al. 2011) or ESTOI (Jensen & Taal 2016) by blocks; needs `pystoi`.

    Args:
        clean: `[samples]`, an array or a `Signal`.
        estimate: `[samples]`, of the same length.
        sample_rate: Rate of both in Hz.
        extended: Whether to return ESTOI.
        gain: Factor for both that brings the loudest sample to 1: pystoi adds constants to the
            faintest.
        size: Approximate length of a block in samples at 10 kHz.

    Returns:
        The score; None where there are fewer than 30 frames of speech.
    """
    library = importlib.import_module("pystoi.stoi")  # the package's `stoi` is the function
    loudest = max((float(level.max()) for _, level in
                   _frames(library, [clean], sample_rate, gain, size)), default=0.0)
    total, segments = 0.0, 0
    bands = [np.zeros((library.NUMBAND, 0))] * 2  # [bands, frames] that segments still need
    for spoken in _speech(library, [clean, estimate], sample_rate, gain, size, loudest):
        bands = [np.concatenate([before, _bands(library, signal)], axis=1)
                 for before, signal in zip(bands, spoken, strict=True)]
        count = bands[0].shape[1] - library.N + 1
        if count > 0:
            views = [np.lib.stride_tricks.sliding_window_view(x, library.N, axis=1) for x in bands]
            # [segments, bands, frames]
            total += _correlations(library, *(x.transpose(1, 0, 2) for x in views), extended)
            segments += count
            bands = [x[:, count:] for x in bands]
    return total / segments if segments else None


def _at_its_rate(library: ModuleType, signal: np.ndarray | Signal, rate: int, gain: float,
                 size: int) -> Iterator[np.ndarray]:
    """Yield the signal at 10 kHz: blocks that are resampled with what the filter reaches."""
    common = np.gcd(library.FS, rate)
    up, down = library.FS // common, rate // common
    step = down * max(size // up, 1)
    around = down * -(-FILTER_REACH * max(up, down) // (up * down))
    for start in range(0, len(signal), step):
        low = max(start - around, 0)
        stop = start + step
        block = gain * np.asarray(signal[low : stop + around], np.float64)
        if rate != library.FS:
            block = library.utils.resample_oct(block, library.FS, rate)
        first = (start - low) // down * up
        yield block[first : first + step // down * up if stop < len(signal) else None]


def _frames(library: ModuleType, signals: list[np.ndarray | Signal], rate: int, gain: float,
            size: int) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Yield windowed frames `[frames, samples]` of each, and the first one's levels in dB."""
    length = library.N_FRAME
    window = np.hanning(length + 2)[1:-1]
    rests = [np.zeros(0)] * len(signals)
    for parts in zip(*(_at_its_rate(library, x, rate, gain, size) for x in signals), strict=True):
        rests = [np.concatenate(both) for both in zip(rests, parts, strict=True)]
        # As pystoi, a frame begins only before the last place where a whole one fits.
        count = max(-(-(len(rests[0]) - length) // (length // 2)), 0)
        if count:
            frames = [np.lib.stride_tricks.sliding_window_view(x, length)[:: length // 2][:count]
                      * window for x in rests]
            level = 20 * np.log10(np.linalg.norm(frames[0], axis=1) + library.utils.EPS)
            yield frames, level
            rests = [x[count * (length // 2) :] for x in rests]


def _speech(library: ModuleType, signals: list[np.ndarray | Signal], rate: int, gain: float,
            size: int, loudest: float) -> Iterator[list[np.ndarray]]:
    """Yield clean and estimate without the frames in which clean is silent, in blocks that overlap
    by what `_bands` leaves of one."""
    length = library.N_FRAME
    half = length // 2
    halves = [np.zeros(half), np.zeros(half)]  # of the last frames, not yet added to
    rests = [np.zeros(0), np.zeros(0)]

    def whole(ended: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
        nonlocal rests
        rests = [np.concatenate(both) for both in zip(rests, ended, strict=True)]
        count = max(-(-(len(rests[0]) - length) // half), 0)
        if count:
            yield rests
            rests = [x[count * half :] for x in rests]

    for frames, level in _frames(library, signals, rate, gain, size):
        kept = loudest - library.DYN_RANGE - level < 0
        added = [_overlap_added(x[kept], before) for x, before in zip(frames, halves, strict=True)]
        halves = [x[-half:] for x in added]
        yield from whole([x[:-half] for x in added])
    yield from whole(halves)


def _overlap_added(frames: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Add frames that overlap by half, the first onto the half frame before it."""
    half = len(before)
    out = np.zeros((len(frames) + 1) * half)
    out[:half] = before
    out[: len(frames) * half] += frames[:, :half].reshape(-1)
    out[half:] += frames[:, half:].reshape(-1)
    return out


def _bands(library: ModuleType, signal: np.ndarray) -> np.ndarray:
    """Return magnitudes in third-octave bands, `[bands, frames]`."""
    spectrum = library.utils.stft(signal, library.N_FRAME, library.NFFT, overlap=2).T
    return np.sqrt(library.OBM @ np.abs(spectrum) ** 2)


def _correlations(
    library: ModuleType, clean: np.ndarray, estimate: np.ndarray, extended: bool
) -> float:
    """Return the sum over segments `[segments, bands, frames]` of the intermediate measure."""
    if extended:
        rows = [library.utils.row_col_normalize(x) for x in (clean, estimate)]
        return float(np.sum(rows[0] * rows[1])) / library.N
    eps = library.utils.EPS
    scale = np.linalg.norm(clean, axis=2, keepdims=True) / (
        np.linalg.norm(estimate, axis=2, keepdims=True) + eps)
    clipped = np.minimum(estimate * scale, clean * (1 + 10 ** (-library.BETA / 20)))
    centred = [x - x.mean(axis=2, keepdims=True) for x in (clipped, clean)]
    units = [x / (np.linalg.norm(x, axis=2, keepdims=True) + eps) for x in centred]
    return float(np.sum(units[0] * units[1])) / clean.shape[1]
