"""Reads a noisy file and its clean file as two signals of one rate and length.

Differences that an editor, a codec or a download made to one file (padding, another rate, inverted
channels) are corrected where that takes no guess, and are kept for the report. Lengths are counted
in decoded samples, not taken from headers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_denoise import audio
from gan_denoise.audio.samples import cancels
from gan_denoise.core.decibels import db_to_power
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.inference.streaming import LOUDEST
from gan_denoise.metrics.signal_files import BLOCK, Signal, blocks, resampled, store

# Lengths that differ by no more than both of these differ by an encoder's padding:
LENGTH_SECONDS = 0.5  # AAC at 8 kHz pads by 0.4 s, MP3 by 0.1 s
LENGTH_SHARE = 0.1  # of the shorter one
# The test of which file is the noisier one:
FRAME_SECONDS = 0.05
LESS_DB = 3.0  # below its partner's part a frame lacks power
ALIKE = 0.03  # squared correlation; 1 / (1 + SNR) of a pair, here -15 dB
LESS_SHARE = 0.1  # of the frames, by which the two readings must differ


class PairMismatchError(GanDenoiseError):
    """The two files of a pair cannot be compared; the reason names both."""


@dataclass(frozen=True)
class DecodedFile:
    """Figures of one file of a pair, counted while it was decoded.

    Attributes:
        sample_rate: Rate of the file in Hz.
        samples: Samples of each channel.
        energies: Sum of squares of each channel, `[channels]`.
        mean_energy: Sum of squares of the mean of the channels.
        cut_off: A sentence on the samples missing at the end; empty where none are.
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
class SignalPair:
    """A noisy and a clean signal of one rate and length.

    Attributes:
        noisy: The noisy signal.
        clean: The clean signal, of the same length.
        sample_rate: Rate of both in Hz, the lower of the files' rates.
        files: Figures of the noisy and of the clean file.
        trimmed: Samples left out at the end of the longer file.
        channel: Index of the channel that is taken of both files, where the mean of the channels
            cancels in one of them; None: the mean is taken.
        gain: Gain that both were given; 1 but for recordings far above full scale.
        clean_is_noisier: Whether the clean signal looks like the noisy one plus noise.
    """

    noisy: Signal
    clean: Signal
    sample_rate: int
    files: tuple[DecodedFile, DecodedFile]
    trimmed: int
    channel: int | None
    gain: float
    clean_is_noisier: bool


def read_pair(noisy: Path, clean: Path, folder: Path) -> SignalPair:
    """Decode a pair into files of raw samples.

    Several channels are averaged. Where the channels of one file cancel in their mean, the loudest
    channel of the clean file is taken from both. Where the rates differ, the higher one is
    resampled to the lower. Where one file is a little longer (`LENGTH_SECONDS`, `LENGTH_SHARE`),
    its end is left out. Both get one gain where one of them is far above full scale.

    Args:
        noisy: The noisy file.
        clean: The clean file.
        folder: Receives the signals' files; memory does not grow with their length.

    Raises:
        AudioError: When a file cannot be read.
        PairMismatchError: When the lengths differ by more than a little.
        SignalError: When the folder is full.
    """
    recordings = (noisy, clean)
    paths = [folder / f"{name}.f32" for name in ("noisy", "clean")]
    read = [_decode(*both) for both in zip(recordings, paths, strict=True)]
    files = tuple(file for file, _ in read)
    channel = None
    if any(file.cancels for file in files):
        deciding = max(reversed(files), key=lambda file: len(file.energies) > 1)
        channel = int(np.argmax(deciding.energies))
        read = [_decode(*both, channel) for both in zip(recordings, paths, strict=True)]
    rate = min(file.sample_rate for file in files)
    signals = []
    for (file, signal), path in zip(read, paths, strict=True):
        if file.sample_rate != rate:
            signal = store(path.with_suffix(f".{rate}"), resampled(signal, file.sample_rate, rate))
            path.unlink()
        signals.append(signal)
    shorter, longer = sorted(map(len, signals))
    if longer - shorter > min(LENGTH_SECONDS * rate, LENGTH_SHARE * shorter):
        lengths = " and ".join(
            f"{file.samples} samples at {file.sample_rate} Hz"
            + (f" (cut off: {file.cut_off})" if file.cut_off else "") for file in files)
        raise PairMismatchError(
            f"{noisy} and {clean} do not match: {lengths} differ by "
            f"{(longer - shorter) / rate:.2f} s", "cut both to the same part")
    loudest = max(audio.peak(block) for signal in signals for block in blocks(signal))
    gain = 1.0 if loudest <= LOUDEST else 2.0 ** -math.ceil(math.log2(loudest))
    signals = [signal.first(shorter).at_gain(gain) for signal in signals]
    return SignalPair(*signals, rate, files, longer - shorter, channel, gain,
                      _is_noisier(*signals[::-1], rate))


def _decode(file: Path, path: Path, channel: int | None = None
            ) -> tuple[DecodedFile, Signal]:
    """Write the mean of a file's channels, or one of them, to `path`; return its figures too."""
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
    return DecodedFile(reader.info.sample_rate, len(signal), tuple(energies.tolist()),
                       mean_energy, reader.cut_off), signal


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
    less = db_to_power(-LESS_DB)
    one_lacks = np.mean(power[0] < less * gains[1] * power[1])
    other_lacks = np.mean(power[1] < less * gains[0] * power[0])
    return bool(other_lacks > one_lacks + LESS_SHARE)
