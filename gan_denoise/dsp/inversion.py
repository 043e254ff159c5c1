"""Mel -> waveform: `gain`, `gain+phase`, `griffinlim`.

The estimate of the clean mel is used as a gain on the noisy STFT, which keeps the noisy phase;
`gain+phase` lets a few Griffin-Lim steps that start there repair it. Plain Griffin-Lim from random
phase is for a bare mel without a noisy recording.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from gan_denoise.config.kinds import (
    GainInversion,
    GainPhaseInversion,
    GriffinLimInversion,
    InversionConfig,
)
from gan_denoise.config.registry import INVERSIONS, register_inversion
from gan_denoise.dsp.mel import Mel


def invert(
    mel: Mel,
    estimate01: np.ndarray,
    noisy_spectrum: np.ndarray,
    length: int,
    inversion: InversionConfig,
) -> np.ndarray:
    """Return the waveform of an estimated mel by the inversion that the settings name.

    Args:
        mel: The transform of the model.
        estimate01: mel01 of the estimate, `[frames, n_mels]`.
        noisy_spectrum: STFT of the noisy recording, complex `[frames, bins]`; `griffinlim` does
            not look at it.
        length: Samples to return.
        inversion: Settings.

    Returns:
        float32 `[length]`.
    """
    return INVERSIONS[inversion.name](mel, estimate01, noisy_spectrum, length, inversion)


@register_inversion(GainInversion)
def _by_gain(
    mel: Mel, estimate01: np.ndarray, noisy_spectrum: np.ndarray, length: int,
    inversion: GainInversion,
) -> np.ndarray:
    return mel.istft(_gained(mel, estimate01, noisy_spectrum, inversion), length)


@register_inversion(GainPhaseInversion)
def _by_gain_and_phase(
    mel: Mel, estimate01: np.ndarray, noisy_spectrum: np.ndarray, length: int,
    inversion: GainPhaseInversion,
) -> np.ndarray:
    spectrum = _gained(mel, estimate01, noisy_spectrum, inversion)
    return mel.istft(refine_phase(mel, spectrum, length, inversion.phase_steps), length)


@register_inversion(GriffinLimInversion)
def _by_griffinlim(
    mel: Mel, estimate01: np.ndarray, noisy_spectrum: np.ndarray, length: int,
    inversion: GriffinLimInversion,
) -> np.ndarray:
    return griffinlim(
        mel, mel_to_magnitude(mel, mel.denormalise(estimate01)), length,
        steps=inversion.griffinlim_steps, momentum=inversion.griffinlim_momentum,
        seed=inversion.seed,
    )


def _gained(
    mel: Mel, estimate01: np.ndarray, noisy_spectrum: np.ndarray, inversion: GainInversion
) -> np.ndarray:
    noisy01 = mel.normalise(mel.linear(noisy_spectrum))
    return mel.bin_gain(band_gain(mel, noisy01, estimate01, inversion)) * noisy_spectrum


def band_gain(
    mel: Mel, noisy01: np.ndarray, estimate01: np.ndarray, inversion: GainInversion
) -> np.ndarray:
    """Return the gain per band that turns a noisy mel into an estimate, at most `max_gain_db`.

    An estimate that went through a bottleneck is blurred, and the plain gain takes from the
    recording all that the blur lost: harmonics, onsets. `gain_smoothing` blurs both alike, as a
    mean of the gain's decibels is the ratio of geometric means of the estimate and the noisy mel
    (a smoothed gain also has no musical noise: Breithaupt, Gerkmann & Martin 2007, who smooth it
    in the cepstrum). A network that was trained by the error of decibels estimates their mean,
    which lies below the level that speech has when it is there; `gain_offset_db` gives some back.

    Args:
        mel: The transform of the model.
        noisy01: mel01 `[..., frames, bands]`.
        estimate01: The estimate, of the same shape.
        inversion: `gain_smoothing`, `gain_offset_db` and `max_gain_db` are used.

    Returns:
        float32 `[..., frames, n_mels]`.
    """
    log_gain = mel.log_gain(noisy01, estimate01)
    if inversion.gain_smoothing != (1, 1):
        log_gain = _mean_around(log_gain, inversion.gain_smoothing)
    log_gain += np.float32(inversion.gain_offset_db / 20)
    return np.minimum(10**log_gain, np.float32(10 ** (inversion.max_gain_db / 20)))


def refine_phase(mel: Mel, spectrum: np.ndarray, length: int, steps: int) -> np.ndarray:
    """Griffin-Lim steps that start from the spectrum's own phase and keep its magnitude.

    Args:
        mel: The transform.
        spectrum: complex `[..., frames, bins]`.
        length: Samples of the waveform that the spectrum stands for.
        steps: Number of steps; 0 returns the spectrum.

    Returns:
        complex64 `[..., frames, bins]` of the same magnitude.
    """
    magnitude = np.abs(spectrum)
    for _ in range(steps):
        rebuilt = mel.stft(mel.istft(spectrum, length))
        spectrum = _scale(_unit(rebuilt), magnitude)
    return spectrum


def griffinlim(
    mel: Mel, magnitude: np.ndarray, length: int, steps: int = 60, momentum: float = 0.99,
    seed: int = 0,
) -> np.ndarray:
    """Fast Griffin-Lim from random phase (Perraudin, Balazs & Søndergaard 2013).

    Args:
        mel: The transform.
        magnitude: `[frames, bins]`.
        length: Samples to return.
        steps: Iterations.
        momentum: 0 is the original algorithm of Griffin & Lim (1984).
        seed: Seed of the random phase.

    Returns:
        float32 `[length]`.
    """
    angle = np.random.default_rng(seed).uniform(-np.pi, np.pi, magnitude.shape)
    phase = np.exp(1j * angle).astype(np.complex64)
    previous = np.zeros_like(phase)
    for _ in range(steps):
        rebuilt = mel.stft(mel.istft(magnitude * phase, length))
        phase = _unit(rebuilt - np.float32(momentum / (1 + momentum)) * previous)
        previous = rebuilt
    return mel.istft(magnitude * phase, length)


def mel_to_magnitude(mel: Mel, linear: np.ndarray, steps: int = 30) -> np.ndarray:
    """Return a non-negative magnitude whose mel is `linear`.

    Multiplicative updates (Lee & Seung 2001) from the spread mel; they stay non-negative, need no
    solver, and are far faster than non-negative least squares frame by frame.

    Args:
        mel: The transform.
        linear: Linear mel `[frames, n_mels]`.
        steps: Updates.

    Returns:
        float32 `[frames, bins]`.
    """
    bank = mel.filterbank  # [n_mels, bins]
    density = linear / bank.sum(axis=1)  # mean magnitude under each triangle
    magnitude = np.maximum(density @ mel.spread, 1e-8).astype(np.float32)
    reached = (linear @ bank).astype(np.float32)
    gram = bank.T @ bank
    covered = np.diag(gram) > 0
    for _ in range(steps):
        ratio = reached[:, covered] / np.maximum(magnitude @ gram, 1e-12)[:, covered]
        magnitude[:, covered] *= ratio
    return magnitude


def _mean_around(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the mean over `size` around each place of `[..., rows, columns]`, edges left out."""
    there = uniform_filter(np.ones(image.shape[-2:], image.dtype), size, mode="constant")
    return uniform_filter(image, size, mode="constant", axes=(-2, -1)) / there


def _unit(spectrum: np.ndarray) -> np.ndarray:
    """Give all of a spectrum the magnitude 1, in place."""
    return _scale(spectrum, 1 / np.maximum(np.abs(spectrum), np.float32(1e-12)))


def _scale(spectrum: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Multiply a complex array by real factors in place; NumPy would make them complex first."""
    for part in (spectrum.real, spectrum.imag):
        part *= factor
    return spectrum
