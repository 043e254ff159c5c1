"""The systems that models are compared with, and the trivial ones among them.

A model must beat silence and the best constant gain: at an input SNR of -8 dB, silence has an SNR
of 0 dB, an improvement of 8 dB.
"""

from __future__ import annotations

import numpy as np

from gan_denoise.metrics.signal_files import BLOCK, Signal

NOISY, ORACLE = "noisy", "oracle"  # systems that every evaluation has beside its models
SILENCE, BEST_GAIN = "silence", "best gain"  # the trivial systems


def trivial_estimates(clean: np.ndarray, noisy: np.ndarray) -> dict[str, np.ndarray]:
    """Return silence, and the noisy signal at the constant gain with the best SNR.

    Args:
        clean: Waveform or features, of any shape.
        noisy: The noisy counterpart, of the same shape.

    Returns:
        `{system: estimate}`, each of the shape and type of `noisy`.
    """
    gain = noisy.dtype.type(best_gain(clean, noisy))
    return {SILENCE: np.zeros_like(noisy), BEST_GAIN: gain * noisy}


def best_gain(clean: np.ndarray | Signal, noisy: np.ndarray | Signal) -> float:
    """Return the gain `<clean, noisy> / <noisy, noisy>`, which gives the noisy signal the best SNR.

    Args:
        clean: An array of any shape, or a `Signal`, which is read block by block.
        noisy: The noisy counterpart, of the same shape.

    Returns:
        The gain; 0 where the noisy signal is silent.
    """
    product = energy = 0.0
    for start in range(0, len(noisy), BLOCK):
        c, n = (signal[start : start + BLOCK] for signal in (clean, noisy))
        product += float(np.sum(c * n, dtype=np.float64))
        energy += float(np.sum(np.square(n, dtype=np.float64)))
    return product / energy if energy else 0.0
