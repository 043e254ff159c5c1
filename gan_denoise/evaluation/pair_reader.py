"""A noisy file and its clean one -> two signals of one rate and length, or the reason why not.

What an editor, a codec or a download did to one side is put right where that can be done without a
guess, and is said; lengths are counted, never believed of a header.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_denoise import audio
from gan_denoise.audio.samples import cancels
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.inference.streaming import LOUDEST
from gan_denoise.metrics.signal_files import BLOCK, Signal, blocks, resampled, store

# Two lengths that differ by no more than both of these are one length, and an encoder's padding:
LENGTH_SECONDS = 0.5  # AAC at 8 kHz pads by 0.4 s, MP3 by 0.1 s
LENGTH_SHARE = 0.1  # of the shorter one
# Which side is noisier:
FRAME_SECONDS = 0.05
LESS_DB = 3.0  # below its partner's part a frame lacks power
ALIKE = 0.03  # squared correlation; 1 / (1 + SNR) of a pair, here -15 dB
LESS_SHARE = 0.1  # of the frames, by which the two readings must differ


class MaterialError(GanDenoiseError):
    """A pair cannot be compared: one line with the files, the reason and the way out."""


@dataclass(frozen=True)
class Side:
    """What one file of a pair holds.

    Attributes:
        sample_rate: Of the file in Hz.
        samples: Of each channel, as counted.
        energies: Sum of squares of each channel.
        mean_energy: Of the mean of the channels.
        cut_off: What is missing at the end of the file; empty where nothing is.
    """

    sample_rate: int
    samples: int
    energies: tuple[float, ...]
    mean_energy: float
    cut_off: str

    @property
    def cancels(self) -> bool:
        """Whether the mean of the channels loses nearly all sound, as of right = -left."""
        return cancels(self.mean_energy, sum(self.energies) / len(self.energies))


@dataclass(frozen=True)
class Material:
    """A pair to score.

    Attributes:
        noisy: The noisy signal.
        clean: The clean one, of the same length.
        sample_rate: Of both in Hz: the lower of the files' rates.
        sides: Of the noisy and of the clean file.
        cut: Samples at the end of the longer one that the other has no counterpart of.
        channel: Number of the one that is taken of both, because the mean of all cancels in one of
            them; None: the mean.
        gain: Of both; 1 but for recordings far above full scale.
        clean_is_noisier: Whether the clean one is the noisy one plus noise.
    """

    noisy: Signal
    clean: Signal
    sample_rate: int
    sides: tuple[Side, Side]
    cut: int
    channel: int | None
    gain: float
    clean_is_noisier: bool


def read_pair(noisy: Path, clean: Path, folder: Path) -> Material:
    """Decode a pair into a folder.

    Several channels are taken as their mean. Where the mean of either side cancels, the loudest
    channel of the clean file is taken, of both. Where the rates differ, the higher one is resampled
    to the lower. Where one is a little longer (`LENGTH_SECONDS`, `LENGTH_SHARE`), the beginnings
    are compared. Both share one gain where one is far above full scale.

    Args:
        noisy: The noisy file.
        clean: The clean file.
        folder: For the signals; memory does not grow with their length.

    Raises:
        AudioError: When a file cannot be read.
        MaterialError: When the lengths differ by more than a little.
        SignalError: When the folder is full.
    """
    files = (noisy, clean)
    paths = [folder / f"{name}.f32" for name in ("noisy", "clean")]
    read = [_decode(*both) for both in zip(files, paths, strict=True)]
    sides = tuple(side for side, _ in read)
    channel = None
    if any(side.cancels for side in sides):
        deciding = max(reversed(sides), key=lambda side: len(side.energies) > 1)
        channel = int(np.argmax(deciding.energies))
        read = [_decode(*both, channel) for both in zip(files, paths, strict=True)]
    rate = min(side.sample_rate for side in sides)
    signals = []
    for (side, signal), path in zip(read, paths, strict=True):
        if side.sample_rate != rate:
            signal = store(path.with_suffix(f".{rate}"), resampled(signal, side.sample_rate, rate))
            path.unlink()
        signals.append(signal)
    shorter, longer = sorted(map(len, signals))
    if longer - shorter > min(LENGTH_SECONDS * rate, LENGTH_SHARE * shorter):
        told = " and ".join(
            f"{side.samples} samples at {side.sample_rate} Hz"
            + (f" (cut off: {side.cut_off})" if side.cut_off else "") for side in sides)
        raise MaterialError(f"{noisy} and {clean} do not match: {told} differ by "
                            f"{(longer - shorter) / rate:.2f} s; cut both to the same part")
    loudest = max(audio.peak(block) for signal in signals for block in blocks(signal))
    gain = 1.0 if loudest <= LOUDEST else 2.0 ** -math.ceil(math.log2(loudest))
    signals = [signal.first(shorter).at_gain(gain) for signal in signals]
    return Material(*signals, rate, sides, longer - shorter, channel, gain,
                    _is_noisier(*signals[::-1], rate))


def _decode(file: Path, path: Path, channel: int | None = None) -> tuple[Side, Signal]:
    """Write a file's channels as their mean, or one of them, and say what it holds."""
    energies, mean_energy = np.zeros(1), 0.0

    def parts() -> Iterator[np.ndarray]:
        nonlocal energies, mean_energy
        for block in reader.blocks(BLOCK):
            mean = block[0] if len(block) == 1 else block.mean(axis=0, dtype=np.float32)
            energies = energies + np.sum(np.square(block, dtype=np.float64), axis=1)
            mean_energy += float(np.sum(np.square(mean, dtype=np.float64)))
            # A file with fewer channels than the other one has its first.
            yield mean if channel is None else block[channel if channel < len(block) else 0]

    with audio.Reader(file) as reader:
        signal = store(path, parts())
    return Side(reader.info.sample_rate, len(signal), tuple(energies.tolist()), mean_energy,
                reader.cut_off), signal


def _is_noisier(one: Signal | np.ndarray, other: Signal | np.ndarray, sample_rate: int) -> bool:
    """Whether `one` is a gain times the other plus noise, and not the other way round.

    Noise adds power: where one is the noisier, its frames hardly ever have less than the other's
    part in them. How often they do is counted for both readings.
    """
    frame = max(round(FRAME_SECONDS * sample_rate), 1)
    powers: tuple[list, list] = ([], [])  # of frames, each [blocks]; 576 KB an hour
    product, energies = 0.0, np.zeros(2)
    for pair in zip(*(blocks(signal, frame * max(BLOCK // frame, 1)) for signal in (one, other)),
                    strict=True):
        pair = np.float64(pair)
        product += float(pair[0] @ pair[1])
        energies += np.sum(pair**2, axis=1)
        frames = pair[:, : pair.shape[1] // frame * frame].reshape(2, -1, frame)
        for kept, power in zip(powers, np.mean(frames**2, axis=2), strict=True):
            kept.append(np.float32(power))
    power = np.stack([np.concatenate(kept) for kept in powers])  # [2, frames]
    if not power.size or product**2 <= ALIKE * float(np.prod(energies)):
        return False
    gains = (product / energies) ** 2  # of one's, of the other's part in its partner
    less = 10 ** (-LESS_DB / 10)
    one_lacks = np.mean(power[0] < less * gains[1] * power[1])
    other_lacks = np.mean(power[1] < less * gains[0] * power[0])
    return bool(other_lacks > one_lacks + LESS_SHARE)
