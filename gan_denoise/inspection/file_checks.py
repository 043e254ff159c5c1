"""Checks of the decoded samples of one file or pair: level, clipping, offset, delay, SNR.

Each check yields a `Finding` where something is wrong.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_denoise.audio import AudioInfo, Reader, peak_dbfs, to_mono
from gan_denoise.audio.samples import cancels, energy
from gan_denoise.core.decibels import power_to_db
from gan_denoise.data.pairs import Pair
from gan_denoise.inspection.findings import Finding
from gan_denoise.metrics.correlation import cross_correlation
from gan_denoise.metrics.registry import Refused

BLOCK_SECONDS = 60.0  # decoded at once, and of each file when not deep
CORRELATE_SECONDS = 20.0  # of a pair, for the lag between noisy and clean
MAX_LAG_SECONDS = 0.5
CLIP_PEAK = 0.98  # flat tops below this are no clipping of a converter
SILENT_DBFS = -70.0  # peak
DC_OFFSET = 0.01  # of full scale
SHORT_SECONDS = 0.1
SNR_TOLERANCE_DB = 3.0  # to the manifest, whose SNR may be of the active speech only


@dataclass(frozen=True)
class FileMeasures:
    """Measurements of one file; full scale is 1.

    Attributes:
        info: Format and length; the length is counted where the whole file was decoded.
        peak: Highest magnitude of all channels.
        rms: Root mean square over all channels.
        dc: Largest magnitude of a channel's mean.
        flat: Number of samples in flat tops at full scale.
        cancels: Whether the channels cancel each other in their mean.
        content: Hash of the decoded samples and their count.
        whole: Whether all of the file was decoded.
        head: Mean of the channels of the first block, float32 `[samples]`; empty once the pair has
            been checked.
    """

    info: AudioInfo
    peak: float
    rms: float
    dc: float
    flat: int
    cancels: bool
    content: str
    whole: bool
    head: np.ndarray


def measure_file(path: Path, deep: bool) -> FileMeasures:
    """Decode and measure a file.

    Args:
        path: The file.
        deep: Whether to decode all of it, or only its first block of `BLOCK_SECONDS`.

    Raises:
        AudioError: When it cannot be read.
    """
    peak = power = mean_power = 0.0
    flat = decoded = 0
    digest = hashlib.blake2b(digest_size=16)
    head = np.zeros(0, np.float32)
    whole = True
    with Reader(path) as reader:
        info = reader.info
        sums = np.zeros(info.channels)
        for audio in reader.blocks(round(BLOCK_SECONDS * info.sample_rate)):
            if decoded and not deep:
                whole = False
                break
            magnitude = np.abs(audio)
            top = float(magnitude.max(initial=0.0))
            if top >= CLIP_PEAK:
                at_top = magnitude >= top * 0.9999
                flat += int((at_top[:, 2:] & at_top[:, 1:-1] & at_top[:, :-2]).sum())
            peak = max(peak, top)
            power += float(np.vdot(audio, audio))
            mean_power += energy(audio.mean(axis=0, dtype=np.float32))
            sums += audio.sum(axis=1, dtype=np.float64)
            digest.update(np.ascontiguousarray(audio.T).tobytes())
            if not decoded:
                head = to_mono(audio)
            decoded += audio.shape[1]
    frames = decoded if whole else info.frames
    info = dataclasses.replace(info, frames=frames, note=reader.note, cut_off=reader.cut_off)
    return FileMeasures(
        info=info,
        peak=peak,
        rms=math.sqrt(power / (decoded * info.channels)),
        dc=float(np.abs(sums).max()) / decoded,
        flat=flat,
        cancels=cancels(mean_power, power / info.channels),
        content=f"{frames}:{digest.hexdigest()}",
        whole=whole,
        head=head,
    )


def file_findings(measures: FileMeasures) -> Iterator[Finding]:
    """Yield what is wrong with a file."""
    yield from _level_findings(measures)
    yield from _format_findings(measures)


def _level_findings(stats: FileMeasures) -> Iterator[Finding]:
    info, file = stats.info, str(stats.info.path)
    if stats.peak == 0.0 or peak_dbfs(np.array(stats.peak)) < SILENT_DBFS:
        part = "" if stats.whole else f" in the first {BLOCK_SECONDS:.0f} s"
        yield Finding(
            "warning", "silence", file, f"silent{part} (peak below {SILENT_DBFS:.0f} dBFS)",
            "record it again, or leave it out",
        )  # fmt: skip
    if stats.flat:
        yield Finding(
            "warning", "clipping", file, f"{stats.flat} samples in flat tops at full scale",
            "record it lower; clipped speech teaches clipping",
        )  # fmt: skip
    if stats.peak > 1.0:
        yield Finding(
            "note", "level", file, f"peak at {peak_dbfs(np.array(stats.peak)):+.1f} dBFS",
            "keep it in a float format, or lower it",
        )  # fmt: skip
    # The mean of a blip is no offset.
    if stats.dc > max(DC_OFFSET, 0.1 * stats.rms) and info.seconds > SHORT_SECONDS:
        yield Finding(
            "warning", "dc offset", file, f"mean at {stats.dc:.3f} of full scale",
            "filter it out (high-pass at 20 Hz)",
        )  # fmt: skip
    if info.seconds < SHORT_SECONDS:
        yield Finding(
            "note", "short", file, f"{info.seconds:.3f} s long",
            "nothing to do where many files are joined; else leave it out",
        )  # fmt: skip


def _format_findings(stats: FileMeasures) -> Iterator[Finding]:
    info, file = stats.info, str(stats.info.path)
    if info.subtype in ("PCM_U8", "PCM_S8", "ULAW", "ALAW") or info.format == "MP3":
        yield Finding(
            "note", "coarse format", file, f"{info.format} {info.subtype}: has coding noise",
            "use an uncompressed original as clean speech",
        )  # fmt: skip
    if stats.cancels:
        yield Finding(
            "warning", "channels cancel", file, "the mean of its channels is near silence (one is "
            "the other, inverted)", "nothing to do in training, which takes the loudest then; "
            "invert one channel to keep both",
        )  # fmt: skip
    if info.cut_off:
        yield Finding(
            "warning", "cut off", file, info.cut_off, "get a whole copy; what is there is used",
        )  # fmt: skip
    if info.note:
        yield Finding(
            "note", "header", file, info.note, "nothing to do: it is read to its end",
        )  # fmt: skip


def pair_snr_db(noisy: FileMeasures, clean: FileMeasures) -> float | None:
    """Return the SNR of a pair's first block in dB.

    Returns:
        None where the rates differ or the clean file is silent; infinity where the files are equal.
    """
    if noisy.info.sample_rate != clean.info.sample_rate:
        return None
    length = min(len(noisy.head), len(clean.head))
    speech = clean.head[:length].astype(np.float64)
    noise = noisy.head[:length] - speech
    signal, disturbance = float(speech @ speech), float(noise @ noise)
    if signal == 0.0:
        return None
    return power_to_db(signal / disturbance) if disturbance else math.inf


def pair_findings(
    pair: Pair, noisy: FileMeasures, clean: FileMeasures, snr_db: float | None, lag: bool
) -> Iterator[Finding]:
    """Yield what is wrong between the two files of a pair.

    Args:
        pair: The pair.
        noisy: Measurements of its noisy file.
        clean: Measurements of its clean file.
        snr_db: `pair_snr_db` of the two.
        lag: Whether to look for a delay between the two, which takes most of the time.
    """
    file = str(pair.noisy)
    rate = noisy.info.sample_rate
    if rate != clean.info.sample_rate:
        yield Finding(
            "warning", "rate mismatch", file, f"{rate} Hz, its clean file {clean.info.sample_rate}",
            "bring both to one rate",
        )  # fmt: skip
        return
    difference = noisy.info.frames - clean.info.frames
    if difference:
        yield Finding(
            "error" if abs(difference) > 0.01 * rate else "warning", "length mismatch", file,
            f"{abs(difference)} samples {'longer' if difference > 0 else 'shorter'} than its clean "
            "file", "cut both to the same part of the recording",
        )  # fmt: skip
    if snr_db == math.inf and not difference:
        yield Finding(
            "warning", "identical", file, "the same samples as its clean file",
            "there is no noise to learn from; check the folders",
        )  # fmt: skip
        return
    if lag and snr_db is not None:
        yield from _alignment_findings(file, rate, noisy.head, clean.head)
    stated = pair.snr_db
    if (
        stated is not None and snr_db is not None and noisy.whole and clean.whole and not difference
        and abs(stated - snr_db) > SNR_TOLERANCE_DB
    ):  # fmt: skip
        yield Finding(
            "warning", "snr", file,
            f"SNR {snr_db:.1f} dB, the name or manifest says {stated:.1f} dB",
            "scores by SNR would mislead: correct the manifest, or check the pair",
        )  # fmt: skip


def _alignment_findings(
    file: str, rate: int, noisy: np.ndarray, clean: np.ndarray
) -> Iterator[Finding]:
    samples = round(CORRELATE_SECONDS * rate)
    lag, best, at_zero, sharpness = align(noisy[:samples], clean[:samples], rate)
    # On real speech wrong partners stay below 0.19 and 9, right ones at -6 dB above 0.4 and 9.7.
    if abs(best) < 0.2 and sharpness < 8.0:
        yield Finding(
            "warning", "unrelated", file, f"correlates with its clean file by {best:.2f} only",
            "listen to both: is this the right partner?",
        )  # fmt: skip
    elif best < 0.0:
        yield Finding(
            "error", "polarity", file, "inverted against its clean file", "invert one of them",
        )  # fmt: skip
    # Noise moves the peak of a flat correlation by a sample or two: it must be clearly better.
    elif lag and best > 1.02 * at_zero:
        yield Finding(
            "error", "misaligned", file,
            f"{abs(lag)} samples {'late' if lag > 0 else 'early'} ({1000 * lag / rate:+.1f} ms)",
            "shift one of them: a delay ruins training and SI-SDR",
        )  # fmt: skip


class Alignment(NamedTuple):
    """The best alignment of two signals within half a second; all zero where one is constant.

    Attributes:
        lag: Delay of the noisy signal behind the clean one in samples.
        correlation: Normalised correlation at that delay, -1 to 1.
        at_zero: Correlation without a delay.
        sharpness: Magnitude of `correlation` over the root mean square of those at all delays.
    """

    lag: int
    correlation: float
    at_zero: float
    sharpness: float


def align(noisy: np.ndarray, clean: np.ndarray, sample_rate: int) -> Alignment:
    """Find the delay at which two signals `[samples]` correlate best, at their rate in Hz."""
    reach = max(min(round(MAX_LAG_SECONDS * sample_rate), len(noisy), len(clean)) - 1, 0)
    try:
        correlation = cross_correlation(clean, noisy, reach)  # [2 * reach + 1]
    except Refused:
        return Alignment(0, 0.0, 0.0, 0.0)
    index = int(np.argmax(np.abs(correlation)))
    best = float(correlation[index])
    sharpness = abs(best) / math.sqrt(float(np.mean(correlation**2))) if best else 0.0
    return Alignment(index - reach, best, float(correlation[reach]), sharpness)
