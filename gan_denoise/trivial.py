"""Trivial systems: what a model must beat before its score means anything.

At an SNR of -8 dB silence has an SNR of 0 dB: an improvement of 8 dB by saying nothing.
"""

from __future__ import annotations

import numpy as np

from gan_denoise.scores import BEST_GAIN, SILENCE


def trivial_estimates(clean: np.ndarray, noisy: np.ndarray) -> dict[str, np.ndarray]:
    """Return silence, and the noisy signal at the constant gain that is best for its SNR.

    That gain, `<clean, noisy> / <noisy, noisy>`, only who knows the clean can tell.

    Args:
        clean: Waveform or features, of any shape.
        noisy: Of the same shape.

    Returns:
        `{system: estimate}`, of noisy's shape and type.
    """
    product = np.sum(clean * noisy, dtype=np.float64)
    energy = np.sum(np.square(noisy, dtype=np.float64))
    gain = noisy.dtype.type(product / energy if energy else 0.0)
    return {SILENCE: np.zeros_like(noisy), BEST_GAIN: gain * noisy}
