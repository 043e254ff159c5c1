"""Synthetic log-mel spectrograms, to study denoisers of spectrograms without recordings.

Syllables of harmonics under moving formants, hissing ones, and the broad strokes of onsets, drawn
as level over time and band. There is no waveform behind them; all of it is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gan_denoise.config.data_sources import SyntheticData
from gan_denoise.core.rng import random_stream
from gan_denoise.data.feature_noise import add_noise, draw_snr

TOP_HZ = 8000.0  # of the highest band
RIDGE = 0.8  # width of a harmonic, in bands of 128
LEVEL = (0.6, 1.0)  # of a syllable, of [0, 1]
VOICED = 0.7  # share of the syllables


def spectrogram(rng: np.random.Generator, frames: int, bands: int) -> np.ndarray:
    """Return a synthetic log-mel, float32 `[frames, bands]` in [0, 1]; 0 is silence.

    Args:
        rng: Random numbers of this spectrogram.
        frames: Number of frames; a syllable has 10 to 40 of 128.
        bands: Number of mel bands; the lowest is at 0 Hz, the highest at 8 kHz.
    """
    drawn = np.zeros((frames, bands), np.float32)
    unit = frames / 128
    pitch = rng.uniform(90, 260)
    at = rng.uniform(0, 12) * unit
    while at < frames - 4:
        length = rng.uniform(10, 40) * unit
        place = np.arange(max(math.floor(at), 0), min(math.ceil(at + length), frames))
        inside = ((place - at) / length).clip(0, 1)  # 0..1 along the syllable
        syllable = (_voiced(rng, inside, bands, pitch) if rng.random() < VOICED
                    else _hiss(rng, inside, bands))
        syllable *= rng.uniform(*LEVEL)
        drawn[place] = np.maximum(drawn[place], syllable)
        if rng.random() < 0.4:
            stroke = _onset(rng, np.arange(frames) - at, bands, unit)
            drawn = np.maximum(drawn, rng.uniform(*LEVEL) * stroke)
        at += length + rng.exponential(6) * unit
    return drawn.clip(0, 1).astype(np.float32)


class SpectrogramSource:
    """Batches of synthetic spectrograms with Gaussian noise, a pure function of (seed, step).

    Args:
        shape: (frames, bands).
        data: `snr_mean`, `snr_std` and `snr_range` say the SNR of a spectrogram: the energy of the
            clean over that of the noise.
        seed: Seed of all spectrograms.
    """

    def __init__(self, shape: tuple[int, int], data: SyntheticData, seed: int):
        self.shape, self.data, self.seed = shape, data, seed

    def item(self, step: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (noisy, clean), float32 `[frames, bands]`; noisy is not clipped."""
        rng = random_stream(self.seed, step, index)
        clean = spectrogram(rng, *self.shape)
        return add_noise(clean, draw_snr(self.data, rng), rng), clean

    def batch(
        self, step: int, batch_size: int, items: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (noisy, clean), float32 `[items, frames, bands]`."""
        items = range(batch_size) if items is None else items
        noisy, clean = zip(*(self.item(step, index) for index in items), strict=True)
        return np.stack(noisy), np.stack(clean)


# ---- What is drawn: [frames of the event, bands] -----------------------------------------------
def _voiced(
    rng: np.random.Generator, inside: np.ndarray, bands: int, pitch: float
) -> np.ndarray:
    """Harmonics of a gliding pitch under formants that move from one vowel to another."""
    glide = rng.uniform(0.8, 1.2, 2)
    f0 = pitch * (glide[0] + (glide[1] - glide[0]) * inside)  # [T]
    nearest = np.maximum(np.rint(_hertz(bands) / f0[:, None]), 1)  # harmonic of each band, [T, F]
    scale = bands / 128
    distance = (np.arange(bands) - _band(f0[:, None] * nearest, bands)) / (RIDGE * scale)
    harmonics = np.exp(-0.5 * distance**2)
    low, high = (np.sort(rng.uniform(300, 4500, 4)) for _ in range(2))
    formants = _band(low + (high - low) * inside[:, None], bands)  # [T, 4]
    widths = rng.uniform(5, 12, 4) * scale
    strengths = np.sort(rng.uniform(0.4, 1.0, 4))[::-1]
    bumps = np.exp(-0.5 * ((np.arange(bands) - formants[..., None]) / widths[:, None]) ** 2)
    envelope = (strengths[:, None] * bumps).max(axis=1)  # [T, F]
    return _shape(inside) * envelope * (0.45 + 0.55 * harmonics)


def _hiss(rng: np.random.Generator, inside: np.ndarray, bands: int) -> np.ndarray:
    centre, width = _band(rng.uniform(3000, 7000), bands), rng.uniform(10, 30) * bands / 128
    slope = np.exp(-0.5 * ((np.arange(bands) - centre) / width) ** 2)
    return _shape(inside) * slope


def _onset(
    rng: np.random.Generator, since: np.ndarray, bands: int, unit: float
) -> np.ndarray:
    """A stroke over all bands that dies away, the faster the higher."""
    decay = rng.uniform(3, 8) * unit * np.linspace(1.2, 0.6, bands)
    level = np.exp(-np.maximum(since, 0)[:, None] / decay)
    return np.where(since[:, None] >= 0, level, 0.0) * rng.uniform(0.4, 1.0)


def _shape(inside: np.ndarray) -> np.ndarray:
    """Rise and fall of a syllable, `[T, 1]`."""
    return (np.minimum(inside / 0.1, 1) * np.minimum((1 - inside) / 0.4, 1) ** 0.7)[:, None]


def _hertz(bands: int) -> np.ndarray:
    """Return the frequencies of the bands, `[bands]`."""
    return 700 * np.expm1(np.linspace(0, math.log1p(TOP_HZ / 700), bands))


def _band(hertz: np.ndarray | float, bands: int) -> np.ndarray:
    """Return where frequencies lie among the bands, on the mel scale (O'Shaughnessy 1987)."""
    return np.log1p(np.asarray(hertz) / 700) / math.log1p(TOP_HZ / 700) * (bands - 1)
