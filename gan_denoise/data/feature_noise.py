"""Noise added to features that have no noise of their own, at SNRs drawn as for mixtures."""

from __future__ import annotations

import math

import numpy as np

from gan_denoise.config.data_sources import CleanData, DataConfig, FeatureSource
from gan_denoise.core.decibels import db_to_amplitude


def add_noise(clean: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Return features with white Gaussian noise at an SNR of their energies, of the same shape."""
    power = float(np.mean(np.square(clean, dtype=np.float64)))
    deviation = math.sqrt(power) * db_to_amplitude(-snr_db)
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    return clean + np.float32(deviation) * noise


def draw_snr(data: DataConfig | CleanData | FeatureSource, rng: np.random.Generator) -> float:
    """Draw an SNR in dB as the recipe says: normal, clipped to its range."""
    return float(np.clip(rng.normal(data.snr_mean, data.snr_std), *data.snr_range))
