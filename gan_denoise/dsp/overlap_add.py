"""Overlap-add of windows: a network of a fixed number of frames run over a mel of any length.

Windows begin at multiples of half their length from the beginning of the mel, and overlapping
estimates are cross-faded linearly with weights that sum to 1. So a chunk that begins at such a
multiple and has a window of context on both sides gives the same estimate as the whole mel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def window_hop(frames: int) -> int:
    """Return the number of frames from one window to the next, given those of a window."""
    return max(frames // 2, 1)


def windowed(
    run: Callable[[np.ndarray], np.ndarray], mel01: np.ndarray, frames: int, silence: np.ndarray
) -> np.ndarray:
    """Return the estimate of a whole mel.

    Args:
        run: The network, `[windows, frames, bands]` to an estimate of the same shape.
        mel01: Normalised mel in [0, 1], `[batch, any frames, bands]`; the last window is filled up
            with `silence`.
        frames: Frames of a window; 0 for a network that takes any number of frames.
        silence: A silent frame, `[bands]`: zeros but for MFCC.

    Returns:
        The estimate, of the shape and type of `mel01`.
    """
    if not frames:
        return run(mel01)
    batch, total, bands = mel01.shape
    hop = window_hop(frames)
    count = max(-(-(total - frames) // hop), 0) + 1
    padded = np.empty((batch, (count - 1) * hop + frames, bands), mel01.dtype)
    padded[:, :total], padded[:, total:] = mel01, silence
    starts = range(0, count * hop, hop)
    windows = np.stack([padded[:, start : start + frames] for start in starts], axis=1)
    estimates = run(windows.reshape(-1, frames, bands)).reshape(windows.shape)
    rise = np.minimum((np.arange(frames) + 0.5) / max(frames - hop, 1), 1.0)
    weight = np.minimum(rise, rise[::-1]).astype(mel01.dtype)[:, None]  # [frames, 1]
    out, weights = np.zeros_like(padded), np.zeros((padded.shape[1], 1), mel01.dtype)
    for number, start in enumerate(starts):
        out[:, start : start + frames] += weight * estimates[:, number]
        weights[start : start + frames] += weight
    return out[:, :total] / weights[:total]
