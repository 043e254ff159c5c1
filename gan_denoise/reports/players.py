"""Sounds and spectrograms as data URIs, and the tracks of a page's player, at one loudness.

Nothing here needs more than the core dependencies. Loudness is that of ITU-R BS.1770-5 (K-weighting
and the two gates), taken as one channel.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soundfile

from gan_denoise.audio import resample
from gan_denoise.dsp.mel import Mel

PEAK = 0.9  # of the loudest sample that a player plays
LARGEST_GAIN = 1000.0  # 60 dB: what is softer is nearly silent and stays so
RANGE_DB = 80.0  # a spectrogram shows levels from the loudest band of all down to this
COLUMNS = 900  # most columns of a spectrogram; longer sounds are averaged in time
PICTURE_QUALITY = 70  # of WebP, of 100
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
_BLOCK, _HOP = 0.4, 0.1  # seconds
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0  # LUFS, LU
# Matplotlib's colour map magma (CC0), every 16th colour; between them it is linear to 1 %.
_MAGMA = (
    0x000003, 0x0A0722, 0x1C1046, 0x350F6A, 0x50127B, 0x691C80, 0x822581, 0x9C2E7F, 0xB63679,
    0xD0416F, 0xE65162, 0xF56A5B, 0xFB8861, 0xFEA671, 0xFEC488, 0xFDE1A3, 0xFBFCBF,
)  # fmt: skip


@dataclass(frozen=True)
class Track:
    """One of the sounds of a player.

    Attributes:
        label: What it is, such as `noisy`.
        audio: Data URI or address of the sound.
        picture: Data URI of its spectrogram; empty without one.
        gain: Factor on its samples when it is played.
    """

    label: str
    audio: str
    picture: str = ""
    gain: float = 1.0


def make_tracks(
    signals: Mapping[str, np.ndarray], sample_rate: int, mel: Mel | None = None
) -> list[Track]:
    """Return tracks of signals of one recording, loudness-matched, the loudest sample at `PEAK`.

    Args:
        signals: `{label: waveform [samples]}`, all of one length.
        sample_rate: Rate of the waveforms in Hz.
        mel: The transform of the spectrograms, which share one scale; None for no pictures.
    """
    gains = matched_gains(signals, sample_rate)
    pictures = {} if mel is None else spectrogram_uris(signals, sample_rate, mel)
    tracks = []
    for label, signal in signals.items():
        peak = float(np.max(np.abs(signal), initial=0.0))
        scale = PEAK / peak if peak else 1.0  # what a lossy codec stores well
        tracks.append(Track(label, audio_uri(scale * signal, sample_rate), pictures.get(label, ""),
                            round(gains[label] / scale, 6)))
    return tracks


def matched_gains(signals: Mapping[str, np.ndarray], sample_rate: int) -> dict[str, float]:
    """Return the gain of each signal at which all are equally loud and none exceeds `PEAK`.

    A signal without loudness (silence, or less than 0.4 s above the gates) is taken by its RMS; one
    without any sample but zeros has the gain of the softest other one.

    Args:
        signals: `{label: waveform [samples]}`.
        sample_rate: Their rate in Hz.
    """
    levels = {}
    for label, signal in signals.items():
        found = loudness(signal, sample_rate)
        mean_square = float(np.mean(np.square(signal, dtype=np.float64))) if len(signal) else 0.0
        levels[label] = (10 ** (found / 20) if found is not None else mean_square**0.5)
    largest = max(levels.values(), default=0.0)
    gains = {label: min(largest / level, LARGEST_GAIN) if level else 1.0
             for label, level in levels.items()}
    peak = max((gains[label] * float(np.max(np.abs(signal), initial=0.0))
                for label, signal in signals.items()), default=0.0)
    return {label: gain * (PEAK / peak if peak else 1.0) for label, gain in gains.items()}


def loudness(signal: np.ndarray, sample_rate: int) -> float | None:
    """Return the integrated loudness in LUFS (ITU-R BS.1770-5); None where all is below the gate.

    Args:
        signal: `[samples]`.
        sample_rate: Rate in Hz.
    """
    from scipy.signal import lfilter  # 45 MB, and a server needs no loudness

    block, hop = round(_BLOCK * sample_rate), round(_HOP * sample_rate)
    if len(signal) < block:
        return None
    weighted = np.asarray(signal, np.float64)
    for numerator, denominator in _k_weighting(sample_rate):
        weighted = lfilter(numerator, denominator, weighted)
    sums = np.concatenate([[0.0], np.cumsum(np.square(weighted))])
    starts = np.arange(0, len(signal) - block + 1, hop)
    powers = np.maximum((sums[starts + block] - sums[starts]) / block, 1e-20)
    for gate in (_ABSOLUTE_GATE, None):
        level = gate if gate is not None else _lufs(powers.mean()) + _RELATIVE_GATE
        powers = powers[_lufs(powers) > level]
        if not len(powers):
            return None
    return float(_lufs(powers.mean()))


def audio_uri(waveform: np.ndarray, sample_rate: int, lossless: bool = False) -> str:
    """Return a sound as a data URI that every browser plays.

    Args:
        waveform: float `[samples]` or `[samples, channels]`; beyond full scale it is clipped.
        sample_rate: Rate in Hz; one that MP3 lacks is resampled to the next higher one.
        lossless: Whether it is FLAC of 16 bits; else MP3, of about 4 kB a second at 16 kHz.
    """
    if lossless:
        return _sound_uri(waveform, sample_rate, "flac", "FLAC", "PCM_16")
    rate = next((rate for rate in MP3_RATES if rate >= sample_rate), MP3_RATES[-1])
    clipped = np.clip(waveform, -1, 1)
    if rate != sample_rate:
        clipped = np.clip(resample(clipped.T, sample_rate, rate).T, -1, 1)
    return _sound_uri(clipped, rate, "mpeg", "MP3", "MPEG_LAYER_III")


def spectrogram_uris(
    signals: Mapping[str, np.ndarray], sample_rate: int, mel: Mel
) -> dict[str, str]:
    """Return log-mel spectrograms of signals as data URIs of WebP, on one scale of colours.

    Args:
        signals: `{label: waveform [samples]}`.
        sample_rate: Their rate in Hz; they are resampled to that of the transform.
        mel: The transform.
    """
    images = {}
    for label, signal in signals.items():
        at_rate = resample(np.asarray(signal, np.float32), sample_rate, mel.sample_rate)
        power = np.square(mel.linear(mel.stft(at_rate)))  # [frames, n_mels]
        step = -(-len(power) // COLUMNS)
        starts = np.arange(0, len(power), step)
        sizes = np.diff([*starts, len(power)])[:, None]
        power = np.add.reduceat(power, starts) / sizes
        images[label] = 10 * np.log10(np.maximum(power, mel.config.floor**2))
    top = max((float(image.max()) for image in images.values()), default=0.0)
    return {label: _picture_uri(1 + (image - top) / RANGE_DB) for label, image in images.items()}


def _sound_uri(waveform: np.ndarray, sample_rate: int, kind: str, container: str, subtype: str
               ) -> str:
    stream = io.BytesIO()
    soundfile.write(stream, waveform, sample_rate, format=container, subtype=subtype)
    return f"data:audio/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _picture_uri(level: np.ndarray) -> str:
    """Return levels from 0 to 1, `[frames, n_mels]`, as a picture with time to the right."""
    import av

    anchors = np.array([[colour >> shift & 255 for shift in (16, 8, 0)] for colour in _MAGMA])
    places = np.linspace(0, 1, len(anchors))
    shown = np.clip(level, 0, 1).T[::-1]  # [n_mels, frames]
    pixels = np.stack([np.interp(shown, places, anchors[:, colour]) for colour in range(3)], -1)
    pixels = np.ascontiguousarray(np.rint(pixels).astype(np.uint8))
    codec = av.CodecContext.create("libwebp", "w")
    codec.height, codec.width = pixels.shape[:2]
    codec.pix_fmt, codec.time_base = "yuv420p", Fraction(1)
    codec.options = {"quality": str(PICTURE_QUALITY)}
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
    data = b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def _lufs(power: np.ndarray) -> np.ndarray:
    return -0.691 + 10 * np.log10(power)


def _k_weighting(sample_rate: int) -> list[tuple[list[float], list[float]]]:
    """Return the two filters of BS.1770 for a rate, as numerators and denominators.

    The standard gives them for 48 kHz; these are the analogue ones behind them, at any rate by the
    bilinear transform (Steinmetz & Reiss, pyloudnorm, AES 150, 2021): a high shelf, a high-pass.
    """
    k = np.tan(np.pi * min(1681.974450955533 / sample_rate, 0.49))
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    scale = 1 + k / q + k * k
    shelf = ([(high + band * k / q + k * k) / scale, 2 * (k * k - high) / scale,
              (high - band * k / q + k * k) / scale],
             [1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale])
    k, q = np.tan(np.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    scale = 1 + k / q + k * k
    low = ([1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale])
    return [shelf, low]
