"""Containers and encodings that recordings are written in, and what each of them can hold.

A container is named as libsndfile names it (`WAV`), or as FFmpeg does, in capitals, where
libsndfile does not write it (`MATROSKA`); so is an encoding. MP3 is written by FFmpeg.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
from pathlib import Path

import soundfile

from gan_denoise.audio.ffmpeg import MediaError
from gan_denoise.audio.media_writer import check_encoder, encoder_of
from gan_denoise.audio.reader import AudioError, AudioInfo, bit_rate

# Suffix -> container and its usual encoding. `.opus` is unknown to libsndfile by name.
CONTAINERS = {
    ".wav": ("WAV", "PCM_16"), ".wave": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"), ".oga": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"), ".aiff": ("AIFF", "PCM_16"), ".aif": ("AIFF", "PCM_16"),
    ".aifc": ("AIFF", "PCM_16"), ".au": ("AU", "PCM_16"), ".snd": ("AU", "PCM_16"),
    ".caf": ("CAF", "PCM_16"), ".w64": ("W64", "PCM_16"), ".rf64": ("RF64", "PCM_16"),
    ".sph": ("NIST", "PCM_16"), ".m4a": ("IPOD", "AAC"), ".aac": ("ADTS", "AAC"),
    ".mp4": ("MP4", "AAC"), ".mov": ("MOV", "AAC"), ".webm": ("WEBM", "OPUS"),
    ".mka": ("MATROSKA", "OPUS"), ".mkv": ("MATROSKA", "OPUS"), ".wma": ("ASF", "WMAV2"),
    ".amr": ("AMR", "AMR_NB"), ".3gp": ("3GP", "AMR_NB"), ".ac3": ("AC3", "AC3"),
    ".wv": ("WV", "WAVPACK"), ".tta": ("TTA", "TTA"),
}  # fmt: skip
# What a user may ask for by name, with the suffix that it is known by.
FORMATS = {"wav": ".wav", "flac": ".flac", "mp3": ".mp3", "opus": ".opus", "m4a": ".m4a",
           "ogg": ".ogg"}  # fmt: skip
_LOSSY = {"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "AAC", "AC3", "EAC3",
          "WMAV1", "WMAV2", "AMR_NB", "AMR_WB", "SPEEX", "WMAPRO",
          "ADPCM_G726"}  # fmt: skip
UNCLIPPED = {"FLOAT", "DOUBLE"} | _LOSSY - {"AMR_NB", "ADPCM_G726"}
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4,
          "FLOAT": 4, "DOUBLE": 8}
_CODECS = {"MPEG_LAYER_III": "mp3", "MPEG_LAYER_II": "mp2"}  # libsndfile's name -> FFmpeg's
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
_32_BIT_SIZES = {"WAV": 4, "WAVEX": 4, "AIFF": 2, "AU": 4}  # GiB that the header can count
# Bits per second and channel of what was not lossy before.
_USUAL_RATES = {"MPEG_LAYER_III": 96_000, "OPUS": 48_000, "AAC": 80_000, "VORBIS": 80_000}
_OPUS_BIT_RATES = 6_000, 256_000  # of a channel, at libsndfile's compression levels 1 and 0


def by_libsndfile(format: str, subtype: str) -> bool:
    """Whether libsndfile writes this; else FFmpeg does, among others every MP3."""
    try:
        return not subtype.startswith("MPEG") and soundfile.check_format(format, subtype)
    except ValueError:  # a name of FFmpeg's
        return False


def codec_of(subtype: str) -> str:
    """Return FFmpeg's name of an encoding."""
    return _CODECS.get(subtype, subtype.lower())


def resolve(path: Path, format: str | None, subtype: str | None) -> tuple[str, str]:
    """Return container and encoding, where they are not given by the suffix.

    Raises:
        AudioError: When there is no such container, or it cannot hold the encoding.
    """
    if format is None:
        if path.suffix.lower() not in CONTAINERS:
            raise AudioError(
                f"{path}: no audio suffix; name the file one of {' '.join(CONTAINERS)}"
            )
        format, usual = CONTAINERS[path.suffix.lower()]
        subtype = subtype or usual
    format = format.upper()
    if subtype is None:
        usual_ones = [usual for name, usual in CONTAINERS.values() if name == format]
        subtype = usual_ones[0] if usual_ones else soundfile.default_subtype(format)
    subtype = (subtype or "").upper()
    if not by_libsndfile(format, subtype):
        known = format in soundfile.available_formats() and format != "MP3"
        if known and encoder_of(codec_of(subtype)) is None:
            raise AudioError(f"{path}: {format} cannot hold {subtype}; write .wav or .flac instead")
    return format, subtype


def output_container(info: AudioInfo, wanted: str = "keep") -> tuple[str, str]:
    """Return the container and encoding for the output of a file: its own, or the nearest.

    Asked for WAV or FLAC, integer and float samples keep their width where the container has it;
    FLAC takes 24 bits of what is wider, and what comes from a lossy codec gets 16 bits.

    Args:
        info: Of the input.
        wanted: `keep`, or a key of `FORMATS`.

    Returns:
        The names of both.
    """
    if wanted == "keep":
        return info.format, info.subtype
    container, usual = CONTAINERS[FORMATS[wanted]]
    if wanted not in ("wav", "flac"):
        return container, usual
    subtype = info.subtype if info.subtype in _BYTES else "PCM_16"
    if wanted == "wav":
        return "WAV", "PCM_U8" if subtype == "PCM_S8" else subtype
    narrow = {"PCM_U8": "PCM_S8", "ULAW": "PCM_16", "ALAW": "PCM_16", "PCM_32": "PCM_24",
              "FLOAT": "PCM_24", "DOUBLE": "PCM_24"}
    return "FLAC", narrow.get(subtype, subtype)


def output_rate(info: AudioInfo, wanted: str = "keep") -> int:
    """Return the sample rate of the output in Hz: the input's, or, where a format was asked for
    that does not know it, the next higher one that it knows."""
    _, subtype = output_container(info, wanted)
    rates = {"OPUS": _OPUS_RATES, "MPEG_LAYER_III": _MP3_RATES}.get(subtype)
    if wanted == "keep" or rates is None or info.sample_rate in rates:
        return info.sample_rate
    return next((rate for rate in rates if rate >= info.sample_rate), rates[-1])


def output_bit_rate(
    info: AudioInfo, subtype: str, channels: int, wanted: int | None = None
) -> int | None:
    """Return the bit rate of the output in bits per second: that which was asked for, or of the
    input where it was lossy, by its share of the channels; None for what has none.

    Args:
        info: Of the input.
        subtype: Encoding of the output.
        channels: Of the output.
        wanted: What was asked for.
    """
    if subtype not in _LOSSY:
        return None
    if wanted is not None:
        return wanted
    known = bit_rate(info) if info.subtype in _LOSSY else None
    if known is not None:
        return round(known * channels / info.channels)
    return _USUAL_RATES[subtype] * channels if subtype in _USUAL_RATES else None


def compression_level(
    subtype: str, sample_rate: int, channels: int, bits: int | None
) -> float | None:
    """Return libsndfile's level, 0 to 1, that gives about a bit rate; None: its default.

    Args:
        subtype: `OPUS` or `VORBIS`; others have no level.
        sample_rate: In Hz.
        channels: Count of channels.
        bits: Per second.
    """
    if bits is None or subtype not in ("OPUS", "VORBIS"):
        return None
    if subtype == "OPUS":
        lowest, highest = _OPUS_BIT_RATES
        return min(max((highest - bits / channels) / (highest - lowest), 0.0), 1.0)
    low, high = 0.0, 1.0  # a higher level is a lower rate
    for _ in range(7):
        level = (low + high) / 2
        low, high = (level, high) if _vorbis_rate(level, sample_rate, channels) > bits else (
            low, level)
    return (low + high) / 2


@functools.lru_cache(maxsize=256)
def _vorbis_rate(level: float, sample_rate: int, channels: int) -> int:
    """Return the nominal bit rate that the Vorbis encoder names in its header."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", sample_rate, channels, "VORBIS", format="OGG",
                             compression_level=level):
        pass
    start = file.getvalue().find(b"\x01vorbis")
    return int.from_bytes(file.getvalue()[start + 20 : start + 24], "little")


def check_container(
    path: str | Path, sample_rate: int, channels: int, format: str, subtype: str, frames: int = 0
) -> None:
    """Refuse, before any work, what the container cannot hold.

    Args:
        path: The file that would be written.
        sample_rate: In Hz.
        channels: Count of channels.
        format: Name of the container.
        subtype: Name of the encoding.
        frames: Samples per channel.

    Raises:
        AudioError: Naming the file, what it cannot hold, and the way out.
    """
    format, subtype = resolve(Path(path), format, subtype)
    check_limits(Path(path), sample_rate, channels, format, subtype)
    check_length(Path(path), frames * channels, format, subtype)


def fitting_formats(info: AudioInfo, channels: int) -> list[str]:
    """Return the formats, by their names in `FORMATS`, that would hold a recording as it is."""
    fitting = []
    for wanted in FORMATS:
        with contextlib.suppress(AudioError):
            rate = output_rate(info, wanted)
            check_container(info.path, rate, channels, *output_container(info, wanted),
                            info.sure_frames)
            fitting.append(wanted)
    return fitting


def check_length(path: Path, samples: int, format: str, subtype: str) -> None:
    """Refuse more samples, of all channels, than a header can count."""
    limit = _32_BIT_SIZES.get(format, math.inf) * 2**30 - 2**16
    if samples * _BYTES.get(subtype, 1) > limit:
        raise AudioError(
            f"{path}: longer than a {format} header can count; write .flac, .w64 or .rf64"
        )


def check_limits(path: Path, sample_rate: int, channels: int, format: str, subtype: str) -> None:
    """Refuse what the codecs cannot hold, with the way out: libsndfile's reasons are blank, and
    beyond its limits the Vorbis encoder takes the process down."""
    rates: tuple[int, ...] | None = None
    top_rate, top_channels = 2**31 - 1, 1024
    if subtype == "OPUS" and format == "OGG":
        rates, top_channels = _OPUS_RATES, 255
    elif format == "MP3":
        rates, top_channels = _MP3_RATES, 2
    elif subtype == "VORBIS":
        top_rate, top_channels = 200_000, 255
    elif format == "FLAC":
        top_rate, top_channels = 655_350, 8
    name = subtype if format == "OGG" else format
    if not 1 <= channels <= top_channels:
        hint = "is the array transposed?" if channels > 1024 else "write .wav instead"
        raise AudioError(f"{path}: {name} cannot hold {channels} channels; {hint}")
    if rates is not None and sample_rate not in rates:
        raise AudioError(
            f"{path}: {name} cannot hold {sample_rate} Hz; write .wav or .flac instead, or "
            f"resample to one of {', '.join(map(str, rates))} Hz"
        )
    if not 1 <= sample_rate <= top_rate:
        raise AudioError(f"{path}: {name} cannot hold {sample_rate} Hz; write .wav instead")
    if by_libsndfile(format, subtype) or (format, subtype) == ("MP3", "MPEG_LAYER_III"):
        return
    try:
        check_encoder(format, codec_of(subtype), sample_rate, channels)
    except MediaError as error:
        raise AudioError(
            f"{path}: {format} with {subtype} of {channels} channels at {sample_rate} Hz cannot be "
            f"written ({error}); write another format"
        ) from error
