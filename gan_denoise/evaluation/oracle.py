"""The oracle: the true clean mel through a model's own inversion, with the noisy phase.

This is what `denoise` would return with a network that estimates the clean mel without error.
Parts lie on the grid of `inference.chunks` and include the samples that they depend on, so together
they equal the result for the whole recording.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gan_denoise.config.schema import InversionConfig
from gan_denoise.dsp.inversion import invert
from gan_denoise.dsp.mel import Mel
from gan_denoise.evaluation.mel_parts import part_ranges
from gan_denoise.inference.chunks import PART_SECONDS
from gan_denoise.metrics.signal_files import Signal


def oracle_parts(mel: Mel, clean: np.ndarray | Signal, noisy: np.ndarray | Signal,
                 inversion: InversionConfig) -> Iterator[np.ndarray]:
    """Yield the oracle's waveform for a noisy recording, part by part in order.

    Args:
        mel: The model's transform.
        clean: `[samples]` at the transform's rate.
        noisy: `[samples]` at the same rate and of the same length.
        inversion: The model's inversion. `griffinlim` starts each part from random phase, so its
            parts are cross-faded over one window.

    Yields:
        float32 `[samples]`.
    """
    hop, n_fft, total = mel.config.hop_length, mel.config.n_fft, len(noisy)
    reach = -(-n_fft // hop)  # frames that share samples with a frame
    context = hop * (inversion.reach(reach) + reach)
    fade = 0 if inversion.is_gain else n_fft
    ramp = ((np.arange(fade) + 0.5) / max(fade, 1)).astype(np.float32)
    tail = None
    for start, stop in part_ranges(total, hop * round(PART_SECONDS * mel.sample_rate / hop)):
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
