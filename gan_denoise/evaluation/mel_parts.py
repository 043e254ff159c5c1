"""Mels of long recordings, part by part: each part equals that part of the whole.

The frames of a part are computed from the samples, or by a network from the frames, that they
depend on. So memory does not grow with the length of a recording.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gan_denoise.dsp.mel import Mel
from gan_denoise.metrics.signal_files import Signal


def mel_frames(mel: Mel, signal: np.ndarray | Signal, first: int, stop: int) -> np.ndarray:
    """Return the frames `[first, stop)` of a signal's mel, from the samples around them alone.

    Args:
        mel: The transform.
        signal: `[samples]` at the transform's rate.
        first: First frame.
        stop: Frame behind the last one, at most `mel.frames(len(signal))`.

    Returns:
        The mel in [0, 1], float32 `[stop - first, bands]`.
    """
    hop = mel.config.hop_length
    reach = -(-mel.config.n_fft // (2 * hop))  # frames begin and end by half a window around them
    low = max(first - reach, 0)
    window = signal[low * hop : (stop - 1 + reach) * hop + 1]
    return mel.mel01(window)[first - low : stop - low]


def network_frames(
    mel: Mel,
    estimate: Callable[[np.ndarray], np.ndarray],
    receptive_field: int,
    time_stride: int,
    noisy: np.ndarray | Signal,
    first: int,
    stop: int,
) -> np.ndarray:
    """Return the frames `[first, stop)` of a network's estimate of the clean mel.

    Args:
        mel: The transform.
        estimate: The network: a mel in [0, 1], `[frames, bands]`, to one of the same shape.
        receptive_field: Frames on each side of a frame that the network takes into account.
        time_stride: The network's input begins at a multiple of this many frames; so must `first`.
        noisy: `[samples]` at the transform's rate.
        first: First frame.
        stop: Frame behind the last one.

    Returns:
        float32 `[stop - first, bands]`.

    Raises:
        ValueError: When the network returns another shape.
    """
    context = -(-receptive_field // time_stride) * time_stride
    low, high = max(first - context, 0), min(stop + context, mel.frames(len(noisy)))
    noisy01 = mel_frames(mel, noisy, low, high)
    found = estimate(noisy01)
    if found.shape != noisy01.shape:
        raise ValueError(f"made {found.shape} of {noisy01.shape}")
    return found[first - low : stop - low]


def part_ranges(total: int, size: int) -> list[tuple[int, int]]:
    """Return `[start, stop)` of consecutive parts.

    Args:
        total: Frames or samples in all.
        size: Length of a part. A rest of less than a quarter of it belongs to the last part.
    """
    count = max((total + 3 * size // 4) // size, 1)
    starts = [size * number for number in range(count)]
    return list(zip(starts, [*starts[1:], total], strict=True))
