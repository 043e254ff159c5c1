"""The true clean mel through a model's own inversion, and mels of long recordings, part by part.

Parts lie on the grid of `chunks` and are computed with what they depend on around them, so they
equal the whole: the oracle is what `denoise` would give with a network that knew the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gan_denoise.config.schema import InversionConfig
from gan_denoise.dsp.inversion import invert
from gan_denoise.dsp.mel import Mel
from gan_denoise.inference.chunks import PART_SECONDS


def oracle_parts(mel: Mel, clean: Any, noisy: Any, inversion: InversionConfig
                 ) -> Iterator[np.ndarray]:
    """Yield what the oracle makes of a noisy recording, in order.

    Args:
        mel: The transform of the model.
        clean: `[samples]` at its rate, an array or a `Signal`.
        noisy: Of the same length.
        inversion: Of the model. `griffinlim` starts each part from random phase, and fades.

    Yields:
        float32 `[samples]`.
    """
    hop, n_fft, total = mel.config.hop_length, mel.config.n_fft, len(noisy)
    reach = -(-n_fft // hop)  # frames that share samples with a frame
    steps = inversion.phase_steps if inversion.name == "gain+phase" else 0
    context = hop * (reach * (steps + 2) + inversion.gain_smoothing[0] // 2)
    fade = n_fft if inversion.name == "griffinlim" else 0
    ramp = ((np.arange(fade) + 0.5) / max(fade, 1)).astype(np.float32)
    tail = None
    for start, stop in parts(total, hop * round(PART_SECONDS * mel.sample_rate / hop)):
        low, high = max(start - context, 0), min(stop + context, total)
        window = noisy[low:high]
        clean01 = mel.mel01(clean[low:high])
        wave = invert(mel, clean01, mel.stft(window), len(window), inversion)
        wave = wave[start - low : stop - low + (fade if stop < total else 0)]
        if tail is not None:  # linear: it keeps the level
            wave[:fade] = ramp * wave[:fade] + (1 - ramp) * tail
        if fade and stop < total:
            wave, tail = wave[:-fade], wave[-fade:]
        yield wave


def mel_frames(mel: Mel, signal: Any, first: int, stop: int) -> np.ndarray:
    """Return the frames `[first, stop)` of the mel of a signal, computed by themselves.

    Args:
        mel: The transform.
        signal: `[samples]`, an array or a `Signal`.
        first: Frame.
        stop: Frame behind the last one, at most `mel.frames(len(signal))`.

    Returns:
        mel01, float32 `[stop - first, bands]`.
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
    noisy: Any,
    first: int,
    stop: int,
) -> np.ndarray:
    """Return the frames `[first, stop)` of a network's estimate of the clean mel.

    Args:
        mel: The transform.
        estimate: The network, mel01 `[frames, bands]` to the same shape.
        receptive_field: Frames on each side that it looks at.
        time_stride: Windows of a recording begin at multiples of it; so must `first`.
        noisy: `[samples]`, an array or a `Signal`.
        first: Frame.
        stop: Frame behind the last one.

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


def parts(total: int, size: int) -> list[tuple[int, int]]:
    """Return `[start, stop)` of parts; a rest shorter than a quarter goes with the part before."""
    count = max((total + 3 * size // 4) // size, 1)
    starts = [size * number for number in range(count)]
    return list(zip(starts, [*starts[1:], total], strict=True))
