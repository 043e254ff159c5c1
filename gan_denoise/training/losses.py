"""Losses: pure functions `(clean, estimate, ...) -> scalar`, in `keras.ops`.

The reconstruction terms are 0 for an identity estimate. The adversarial game is two functions,
`discriminator_loss(real, fake)` and `generator_loss(fake)`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from keras import ops

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

EPSILON = 1e-7  # of magnitudes: -140 dBFS, under any recording's floor
# Of ESTOI (Jensen & Taal 2016): a segment, the lowest band's centre, bands, and how far below the
# loudest frame of clean speech a frame is silence.
SEGMENT_SECONDS, LOWEST_HZ, THIRD_OCTAVES, SPEECH_DB = 0.384, 150.0, 15, 40.0
SEGMENT_SHIFT = 1 / 8  # of a segment; every frame would say little more


# ---- Reconstruction ----------------------------------------------------------------------------
def mse(clean: Tensor, estimate: Tensor) -> Tensor:
    """Mean squared error of two mel01, `[batch, frames, n_mels]`."""
    return ops.mean(ops.square(estimate - clean))


def compressed_mel(clean: Tensor, estimate: Tensor, compression: float) -> Tensor:
    """Relative squared error of power-compressed linear mels, `[batch, frames, n_mels]`."""
    return _relative(_compress(clean, compression), _compress(estimate, compression))


def compressed_magnitude(clean: Tensor, estimate: Tensor, compression: float) -> Tensor:
    """Relative squared error of power-compressed magnitudes, `[batch, frames, bins]`.

    Each clip counts alike, whatever its level (compression: Ephrat et al. 2018; Braun & Tashev
    2020).
    """
    return _relative(_compress(clean, compression), _compress(estimate, compression))


def compressed_complex(
    clean: tuple[Tensor, Tensor],
    clean_magnitude: Tensor,
    estimate: tuple[Tensor, Tensor],
    estimate_magnitude: Tensor,
    compression: float,
) -> Tensor:
    """Relative squared error of complex spectra whose magnitudes are power-compressed.

    Args:
        clean: (real, imaginary), each `[batch, frames, bins]`.
        clean_magnitude: Its magnitude.
        estimate: (real, imaginary) of the estimate.
        estimate_magnitude: Its magnitude.
        compression: Power of the magnitudes.
    """
    by_clean = _compress(clean_magnitude, compression) / (clean_magnitude + EPSILON)
    by_estimate = _compress(estimate_magnitude, compression) / (estimate_magnitude + EPSILON)
    error = sum(
        ops.square(e * by_estimate - c * by_clean) for c, e in zip(clean, estimate, strict=True)
    )
    energy = ops.square(_compress(clean_magnitude, compression))
    return ops.mean(ops.mean(error, axis=(1, 2)) / (ops.mean(energy, axis=(1, 2)) + EPSILON))


def missing_snr(clean: tuple[Tensor, Tensor], estimate: tuple[Tensor, Tensor]) -> Tensor:
    """Decibels that the SNR of complex spectra lies below 30 dB, mean over the clips.

    Spectra stand for waveforms (Parseval), so this is the waveform's SNR without an inverse
    transform; bounded like that, a nearly clean clip does not rule its batch.

    Args:
        clean: (real, imaginary), each `[batch, frames, bins]`.
        estimate: The same of the estimate.
    """

    def energy(parts: Iterable[Tensor]) -> Tensor:
        return sum(ops.mean(ops.square(part), axis=(1, 2)) for part in parts)

    error = energy([e - c for c, e in zip(clean, estimate, strict=True)])
    ratio = error / (energy(clean) + EPSILON**2)
    return ops.mean(ops.log(ratio + 1e-3)) * (10 / math.log(10)) + 30.0


def missing_estoi(
    clean: tuple[Tensor, Tensor], estimate: tuple[Tensor, Tensor], sample_rate: int, hop_length: int
) -> Tensor:
    """What the ESTOI of complex spectra lies below 1, mean over the clips.

    Jensen & Taal 2016: the correlation of spectrograms in third octaves, over segments of 0.4 s of
    speech whose bands, then frames, have mean 0 and length 1. Frames and bands are those of the
    STFT at hand, and segments overlap by seven eighths; so it is near that of `metrics`, not equal.
    A clip with less speech than a segment counts as 0.

    Args:
        clean: (real, imaginary), each `[batch, frames, bins]`.
        estimate: The same of the estimate.
        sample_rate: Hz.
        hop_length: Samples from frame to frame.
    """
    powers = [ops.square(real) + ops.square(imaginary) for real, imaginary in (clean, estimate)]
    level = ops.sum(powers[0], axis=2)
    loudest = ops.max(level, axis=1, keepdims=True)
    speech = level > 10 ** (-SPEECH_DB / 10) * loudest
    frames = level.shape[1]
    place = ops.arange(frames, dtype="int32")
    order = ops.argsort(ops.where(speech, place, place + frames), axis=1)  # speech first
    octaves = third_octaves(sample_rate, 2 * (clean[0].shape[2] - 1))
    order = ops.repeat(order[:, :, None], octaves.shape[1], axis=2)
    unit = ops.maximum(loudest, EPSILON**2)[:, :, None]
    envelopes = [ops.take_along_axis(ops.sqrt(ops.matmul(power / unit, octaves) + EPSILON**2),
                                     order, axis=1) for power in powers]
    length = min(round(SEGMENT_SECONDS * sample_rate / hop_length), frames)
    starts = np.arange(0, frames - length + 1, max(round(SEGMENT_SHIFT * length), 1))
    segments = [_of_unit_length(_of_unit_length(
        ops.stack([envelope[:, start : start + length] for start in starts], axis=1), 2), 3)
        for envelope in envelopes]
    missing = 1 - ops.sum(segments[0] * segments[1], axis=(2, 3)) / length
    whole = ops.cast(starts + length <= ops.sum(ops.cast(speech, "int32"), axis=1, keepdims=True),
                     "float32")
    return ops.mean(ops.sum(missing * whole, axis=1) / ops.maximum(ops.sum(whole, axis=1), 1.0))


@functools.cache
def third_octaves(sample_rate: int, n_fft: int) -> np.ndarray:
    """Return the bins that each third octave sums, `[bins, bands]`, 0 or 1.

    Those of ESTOI, from 150 Hz on, that have bins below half the sample rate.
    """
    hertz = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    edges = LOWEST_HZ * 2 ** ((2 * np.arange(THIRD_OCTAVES + 1) - 1) / 6)
    nearest = np.argmin(np.abs(hertz[:, None] - edges), axis=0)
    bins = np.arange(len(hertz))[:, None]
    bands = ((bins >= nearest[:-1]) & (bins < nearest[1:])).astype(np.float32)
    return bands[:, bands.any(axis=0)]


def _of_unit_length(values: Tensor, axis: int) -> Tensor:
    centred = values - ops.mean(values, axis=axis, keepdims=True)
    return centred / ops.sqrt(
        ops.sum(ops.square(centred), axis=axis, keepdims=True) + EPSILON**2)


def _compress(magnitude: Tensor, compression: float) -> Tensor:
    return ops.power(magnitude + EPSILON, compression)  # epsilon: the slope at 0 is infinite


def _relative(clean: Tensor, estimate: Tensor) -> Tensor:
    axes = tuple(range(1, len(clean.shape)))
    error = ops.mean(ops.square(estimate - clean), axis=axes)
    return ops.mean(error / (ops.mean(ops.square(clean), axis=axes) + EPSILON))


# ---- Adversarial -------------------------------------------------------------------------------
def discriminator_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """Loss of the discriminator from its logits on clean and on estimated mels.

    Args:
        real: Logits on clean mels, any shape.
        fake: Logits on estimates.
        kind: `lsgan` (Mao et al. 2017), `hinge` (Lim & Ye 2017) or `bce` (Goodfellow et al. 2014).
    """
    if kind == "lsgan":
        return ops.mean(ops.square(real - 1)) + ops.mean(ops.square(fake))
    if kind == "hinge":
        return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))
    if kind == "bce":
        return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))
    raise ValueError(f"unknown adversarial loss '{kind}'")


def score_loss(score: Tensor, predicted: Tensor) -> Tensor:
    """Loss of the metric discriminator: squared error of the scores that are known.

    Args:
        score: `[clips]`; NaN where there is none.
        predicted: `[clips]`.
    """
    known = ops.logical_not(ops.isnan(score))
    error = ops.where(known, ops.square(predicted - ops.where(known, score, 0.0)), 0.0)
    return ops.sum(error) / ops.maximum(ops.sum(ops.cast(known, "float32")), 1.0)


def generator_loss(fake: Tensor, kind: str) -> Tensor:
    """Adversarial loss of the generator from the discriminator's logits on its estimates."""
    if kind == "lsgan":
        return ops.mean(ops.square(fake - 1))
    if kind == "hinge":
        return -ops.mean(fake)
    if kind == "bce":
        return ops.mean(ops.softplus(-fake))
    raise ValueError(f"unknown adversarial loss '{kind}'")


def feature_matching(
    real: Sequence[Tensor], fake: Sequence[Tensor],
    over_replicas: Callable[[Tensor], Tensor] = lambda size: size,
) -> Tensor:
    """Mean absolute difference of the discriminator's hidden layers, each over its own size.

    Salimans et al. 2016; relative to the mean size of the real layer as in Kumar et al. 2019's
    successors, so that no layer rules by its scale.

    Args:
        real: Layers on clean mels.
        fake: The same on estimates.
        over_replicas: Turns the mean size of a layer into that over all replicas.
    """
    terms = [
        ops.mean(ops.abs(r - f)) / (over_replicas(ops.mean(ops.abs(r))) + EPSILON)
        for r, f in zip(real, fake, strict=True)
    ]
    return sum(terms) / len(terms)
