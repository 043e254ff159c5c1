"""Metrics of two mel spectrograms in [0, 1]: MSE, PSNR, SNR."""

from __future__ import annotations

import numpy as np

from gan_denoise.metrics.blockwise import ErrorSums
from gan_denoise.metrics.waveform import snr


def mse_mel(clean01: np.ndarray, estimate01: np.ndarray) -> float:
    """Return the mean squared error of two mels in [0, 1], of equal shape."""
    return ErrorSums.between(clean01, estimate01).mse


def psnr_mel(clean01: np.ndarray, estimate01: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two mels in dB, peak 1; inf where they are equal."""
    return ErrorSums.between(clean01, estimate01).psnr


def snr_mel(clean01: np.ndarray, estimate01: np.ndarray) -> float:
    """Return `10 log10(sum clean^2 / sum (clean - estimate)^2)` of two mels in [0, 1], in dB.

    Raises:
        Refused: The clean mel is zero throughout.
    """
    return snr(clean01, estimate01)
