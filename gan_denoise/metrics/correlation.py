"""Cross-correlation of two signals over a range of delays, block by block."""

from __future__ import annotations

import numpy as np
from scipy import fft

from gan_denoise.metrics.blockwise import UnitSignal
from gan_denoise.metrics.signal_files import BLOCK, Signal


def cross_correlation(
    clean: np.ndarray | Signal, estimate: np.ndarray | Signal, reach: int
) -> np.ndarray:
    """Return the normalised cross-correlation of two signals without their means.

    Args:
        clean: `[samples]`, an array or a `Signal`.
        estimate: `[samples]`, of the same or another length; the signals begin together.
        reach: The longest delay in samples.

    Returns:
        float64 `[2 * reach + 1]`: the correlation, -1 to 1, at delays of the estimate behind the
        clean signal from `-reach` to `reach` samples.

    Raises:
        Refused: One of them is silent or constant.
    """
    clean_unit, estimate_unit = UnitSignal(clean, "clean"), UnitSignal(estimate, "estimate")
    block = min(BLOCK, len(clean))
    size = fft.next_fast_len(block + 2 * reach, real=True)  # no wrap-around within reach
    correlation = np.zeros(2 * reach + 1)
    for start in range(0, len(clean), block):
        around = estimate_unit.block(start - reach, start + block + reach)
        here = clean_unit.block(start, start + block)
        product = fft.rfft(around, size) * np.conj(fft.rfft(here, size))
        correlation += fft.irfft(product, size)[: len(correlation)]
    return correlation
