"""Samples as arrays: resampling, rounding to integers, levels, and channels mixed to one.

Arrays are float `[channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

import math

import numpy as np

# Share of the channels' mean energy that their mean keeps at most where they cancel each other;
# unrelated channels keep more.
CANCELLED = 0.01


def resample(
    audio: np.ndarray, rate_in: int, rate_out: int, length: int | None = None
) -> np.ndarray:
    """Resample along the last axis (soxr HQ, no delay).

    Args:
        audio: float `[..., samples]`.
        rate_in: Rate of `audio` in Hz.
        rate_out: Rate of the result in Hz.
        length: Exact number of samples to return. Resampled back to its own rate, a recording is
            given its own length, as 44.1 -> 16 -> 44.1 kHz is off by one otherwise. None:
            samples * rate_out / rate_in, rounded.

    Returns:
        float32 `[..., length]`, cut or padded with zeros at the end.
    """
    audio = np.asarray(audio, dtype=np.float32)
    samples = audio.shape[-1]
    if length is None:
        length = round(samples * rate_out / rate_in)
    if rate_in != rate_out and audio.size:
        import soxr

        flat = audio.reshape(-1, samples)
        if len(flat) == 1:  # soxr is faster with one channel
            flat = soxr.resample(flat[0], rate_in, rate_out, quality="HQ")[None]
        else:
            flat = soxr.resample(flat.T, rate_in, rate_out, quality="HQ").T
        audio = flat.reshape(*audio.shape[:-1], -1)
    missing = length - audio.shape[-1]
    if missing > 0:
        audio = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(audio[..., :length])


def quantise(audio: np.ndarray, bits: int) -> np.ndarray:
    """Round samples to the nearest of `bits` bits, clipped.

    libsndfile drops the lower bits for some containers, which lowers every sample by half a step.

    Args:
        audio: float array of any shape, full scale at +-1.
        bits: Number of bits, 8 to 32.

    Returns:
        int16 for up to 16 bits, else int32, of the same shape; the bits are the upper ones.
    """
    steps = 2.0 ** (bits - 1)
    exact = audio if bits <= 24 else audio.astype(np.float64)
    rounded = np.rint(exact * exact.dtype.type(steps))
    width = 16 if bits <= 16 else 32
    rounded = np.clip(rounded, -steps, steps - 1, out=rounded).astype(f"int{width}")
    return rounded << (width - bits) if width > bits else rounded


def peak(audio: np.ndarray) -> float:
    """Return the largest magnitude of an array of any shape; zero where it is empty."""
    return max(float(np.max(audio, initial=0.0)), -float(np.min(audio, initial=0.0)))


def peak_dbfs(audio: np.ndarray) -> float:
    """Return the largest magnitude in dB relative to full scale; minus infinity for silence."""
    largest = peak(audio)
    return 20.0 * math.log10(largest) if largest > 0.0 else -math.inf


def to_mono(audio: np.ndarray) -> np.ndarray:
    """Return the mean of the channels, or the loudest channel where they cancel each other.

    Args:
        audio: float `[channels, samples]`.

    Returns:
        `[samples]` of the same type.
    """
    if len(audio) == 1:
        return audio[0]
    mean = audio.mean(axis=0, dtype=audio.dtype)
    if cancels(energy(mean), energy(audio) / len(audio)):
        return np.ascontiguousarray(audio[np.argmax([energy(channel) for channel in audio])])
    return mean


def energy(audio: np.ndarray) -> float:
    """Return the sum of the squares of an array of any shape."""
    flat = np.ascontiguousarray(audio).reshape(-1)
    return float(np.vdot(flat, flat))


def cancels(mean: float, channels: float) -> bool:
    """Return whether channels cancel each other in their mean, as if one were inverted.

    Args:
        mean: Energy of the mean of the channels.
        channels: Mean of the energies of the channels.
    """
    return mean < CANCELLED * channels
