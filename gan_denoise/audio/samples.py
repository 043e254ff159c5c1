"""Samples as arrays: resampling, levels, and several channels as one.

Arrays are float `[channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

import math

import numpy as np

CANCELLED = 0.01  # of the channels' mean energy, which is what channels of chance leave and more


def resample(
    audio: np.ndarray, rate_in: int, rate_out: int, length: int | None = None
) -> np.ndarray:
    """Resample along the last axis (soxr HQ, no delay).

    Args:
        audio: `[..., samples]`.
        rate_in: Rate of `audio` in Hz.
        rate_out: Wanted rate in Hz.
        length: Exact samples to return: for the way back, those of the original, because
            44.1 -> 16 -> 44.1 kHz is off by one otherwise. None: samples * rate_out / rate_in,
            rounded.

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
        if len(flat) == 1:  # soxr's one-channel path is the faster one
            flat = soxr.resample(flat[0], rate_in, rate_out, quality="HQ")[None]
        else:
            flat = soxr.resample(flat.T, rate_in, rate_out, quality="HQ").T
        audio = flat.reshape(*audio.shape[:-1], -1)
    missing = length - audio.shape[-1]
    if missing > 0:
        audio = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(audio[..., :length])


def peak(audio: np.ndarray) -> float:
    """Return the largest magnitude; zero of no samples."""
    return max(float(np.max(audio, initial=0.0)), -float(np.min(audio, initial=0.0)))


def peak_dbfs(audio: np.ndarray) -> float:
    """Return the largest magnitude in dB below full scale; minus infinity for silence."""
    largest = peak(audio)
    return 20.0 * math.log10(largest) if largest > 0.0 else -math.inf


def to_mono(audio: np.ndarray) -> np.ndarray:
    """Return the mean of channels, or the loudest of them where the mean cancels.

    Args:
        audio: `[channels, samples]`.

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
    """Return the sum of squares."""
    flat = np.ascontiguousarray(audio).reshape(-1)
    return float(np.vdot(flat, flat))


def cancels(mean: float, channels: float) -> bool:
    """Whether channels cancel each other in their mean: one is the negative of the other.

    Args:
        mean: Energy of the mean of the channels.
        channels: Mean energy of the channels. Of unrelated ones the mean keeps 1 / channels.
    """
    return mean < CANCELLED * channels
