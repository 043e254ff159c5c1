"""Baselines: what a model must beat before its score means anything.

At an SNR of -8 dB silence has an SNR of 0 dB: an improvement of 8 dB by saying nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gan_denoise.metrics.signal_files import BLOCK

NOISY, ORACLE = "noisy", "oracle"  # systems that every evaluation has beside its models
SILENCE, BEST_GAIN = "silence", "best gain"  # the trivial systems


def trivial_estimates(clean: np.ndarray, noisy: np.ndarray) -> dict[str, np.ndarray]:
    """Return silence, and the noisy signal at the constant gain that is best for its SNR.

    That gain, `<clean, noisy> / <noisy, noisy>`, only who knows the clean can tell.

    Args:
        clean: Waveform or features, of any shape.
        noisy: Of the same shape.

    Returns:
        `{system: estimate}`, of noisy's shape and type.
    """
    gain = noisy.dtype.type(best_gain(clean, noisy))
    return {SILENCE: np.zeros_like(noisy), BEST_GAIN: gain * noisy}


def best_gain(clean: Any, noisy: Any) -> float:
    """Return that gain; 0 where the noisy signal is silent.

    Args:
        clean: Arrays of any shape, or a `Signal`, of which a block is held at a time.
        noisy: Of the same shape.
    """
    product = energy = 0.0
    for start in range(0, len(noisy), BLOCK):
        c, n = (signal[start : start + BLOCK] for signal in (clean, noisy))
        product += float(np.sum(c * n, dtype=np.float64))
        energy += float(np.sum(np.square(n, dtype=np.float64)))
    return product / energy if energy else 0.0
