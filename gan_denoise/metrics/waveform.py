"""Metrics of two waveforms that are compared sample by sample: SNR, SI-SDR, LSD, delay."""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

from gan_denoise.core.decibels import db_to_power
from gan_denoise.metrics.blockwise import (
    ErrorSums,
    UnitSignal,
    as_pair,
    float64,
    paired_blocks,
    ratio_db,
    require_sound,
    unit_blocks,
)
from gan_denoise.metrics.correlation import cross_correlation
from gan_denoise.metrics.registry import Refused

LSD_SECONDS = (0.032, 0.008)  # window and hop
LSD_RANGE_DB = 60.0  # below the clean clip's mean power in a bin, both spectra are floored
LSD_BLOCK = 1024  # frames transformed at once
LAG_SECONDS = 0.1  # the longest delay that is looked for
LAG_CLEAR = 0.2  # normalised correlation under which a delay is a guess


def snr(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Return the signal-to-noise ratio of whole-clip energies in dB; inf where they are equal.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.

    Raises:
        Refused: The clean clip is silent.
    """
    return ErrorSums.between(clean, estimate).snr


def si_sdr(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB.

    Le Roux, Wisdom, Erdogan & Hershey, "SDR - half-baked or well done?", ICASSP 2019, both signals
    with their mean removed. It depends on the angle between them only: it is the same for any
    scale or sign of either, and for swapped arguments. A delay of a few samples ruins it (`lag`).

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.

    Returns:
        dB; inf where the estimate is the scaled clean, to rounding; -inf where they are orthogonal.

    Raises:
        Refused: One of them is silent or constant.
    """
    clean, estimate = as_pair(clean, estimate)
    units = UnitSignal(clean, "clean"), UnitSignal(estimate, "estimate")
    cosine = math.fsum(float(c @ e) for c, e in unit_blocks(units))
    residual = math.fsum(float(np.sum((e - cosine * c) ** 2)) for c, e in unit_blocks(units))
    rounding = (8 * np.finfo(np.float64).eps) ** 2
    return ratio_db(cosine**2, residual if residual > rounding else 0.0)


def lsd(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return the log-spectral distance in dB.

    In each frame the root of the mean, over bins, of the squared difference of the two log power
    spectra in dB; then the mean over frames (Gray & Markel, "Distance measures for speech
    processing", IEEE TASSP 24(5), 1976). Hann windows of 32 ms every 8 ms. Both power spectra are
    floored 60 dB below the clean clip's mean power in a bin: without a floor, digital silence
    would decide the result.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.
        sample_rate: Hz.

    Raises:
        Refused: The clean clip is silent, or shorter than one window.
    """
    clean, estimate = as_pair(clean, estimate)
    require_sound(clean, estimate)
    size, hop = (max(1, round(seconds * sample_rate)) for seconds in LSD_SECONDS)
    if len(clean) < size:
        raise Refused(f"shorter than a window of {1000 * LSD_SECONDS[0]:.0f} ms")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    energy = math.fsum(float(np.sum(block**2)) for block, _ in paired_blocks(clean, clean))
    power = energy / len(clean)
    floor = power * np.sum(window**2) * db_to_power(-LSD_RANGE_DB)
    frames = 1 + (len(clean) - size) // hop
    total = 0.0
    for first in range(0, frames, LSD_BLOCK):
        inside = slice(first * hop, (min(first + LSD_BLOCK, frames) - 1) * hop + size)
        levels = []
        for signal in (clean, estimate):
            view = np.lib.stride_tricks.sliding_window_view(float64(signal, inside), size)[::hop]
            power = np.abs(fft.rfft(view * window, axis=-1)) ** 2
            levels.append(10 * np.log10(np.maximum(power, floor)))  # [frames, bins]
        total += float(np.sum(np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=-1))))
    return total / frames


def lag(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return the delay of the estimate behind the clean clip in seconds, to the nearest sample.

    It is the delay of the largest absolute cross-correlation within 0.1 s. SNR, SI-SDR and LSD
    compare sample by sample and are meaningless where this is not 0.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.
        sample_rate: Hz.

    Raises:
        Refused: One of them is silent, or they correlate too little to tell (a lost phase).
    """
    clean, estimate = as_pair(clean, estimate)
    reach = min(round(LAG_SECONDS * sample_rate), len(clean) - 1)
    correlation = np.abs(cross_correlation(clean, estimate, reach))
    peak = int(np.argmax(correlation))
    if correlation[peak] < LAG_CLEAR:
        raise Refused(f"no clear alignment: correlation {correlation[peak]:.2f} at most")
    return (peak - reach) / sample_rate
