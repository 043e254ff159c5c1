"""Containers and encodings that recordings are written in, and what each of them can hold.

Three kinds of name are used throughout:

- A *container* is the layout of a file: `WAV`, `OGG`, `MATROSKA`. soundfile's word is `format`.
- An *encoding* is how its samples are stored: `PCM_16`, `OPUS`, `AAC`. soundfile's word is
  `subtype`.
- A *format name* is what a user asks for with `--format`: `wav`, `opus`, `m4a`. It stands for a
  container with its usual encoding. `keep` stands for those of the input.

Containers and encodings are named as in libsndfile, and where libsndfile does not write them as in
FFmpeg, in capitals. libsndfile writes all that it can but MP3; FFmpeg writes the rest.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import soundfile

from gan_denoise.audio.errors import AudioError
from gan_denoise.audio.ffmpeg import MediaError
from gan_denoise.audio.ffmpeg_encoders import check_encoder, encoder_of
from gan_denoise.audio.info import AudioInfo
from gan_denoise.audio.mp3_encoder import HEADROOM
from gan_denoise.audio.reader import bit_rate
from gan_denoise.core.locations import location

# Suffix -> container and its usual encoding.
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
# Format name -> suffix of such a file.
FORMAT_SUFFIXES = {"wav": ".wav", "flac": ".flac", "mp3": ".mp3", "opus": ".opus", "m4a": ".m4a",
                   "ogg": ".ogg"}  # fmt: skip
_LOSSY = {"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "AAC", "AC3", "EAC3",
          "WMAV1", "WMAV2", "AMR_NB", "AMR_WB", "SPEEX", "WMAPRO",
          "ADPCM_G726"}  # fmt: skip
# Encodings that hold samples beyond full scale.
_UNCLIPPED = {"FLOAT", "DOUBLE"} | _LOSSY - {"AMR_NB", "ADPCM_G726"}
# Bits of a sample of integer encodings, and bytes of one of all encodings without blocks.
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4,
          "FLOAT": 4, "DOUBLE": 8}
_CODECS = {"MPEG_LAYER_III": "mp3", "MPEG_LAYER_II": "mp2"}  # libsndfile's name -> FFmpeg's
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
_32_BIT_SIZES = {"WAV": 4, "WAVEX": 4, "AIFF": 2, "AU": 4}  # GiB that the header can count
# Bits per second and channel of a lossy output whose input was lossless.
_USUAL_RATES = {"MPEG_LAYER_III": 96_000, "OPUS": 48_000, "AAC": 80_000, "VORBIS": 80_000}


def by_libsndfile(format: str, subtype: str) -> bool:
    """Return whether libsndfile writes a container with an encoding; otherwise FFmpeg does.

    Args:
        format: Container.
        subtype: Encoding. MP3 and its relatives are left to FFmpeg.
    """
    try:
        return not subtype.startswith("MPEG") and soundfile.check_format(format, subtype)
    except ValueError:  # a name of FFmpeg's
        return False


def ceiling(format: str, subtype: str) -> float:
    """Return the largest magnitude of a sample that a container and encoding hold; infinity for
    those without a limit."""
    if (format, subtype) == ("MP3", "MPEG_LAYER_III"):
        return HEADROOM
    return math.inf if subtype in _UNCLIPPED else 1.0


def codec_of(subtype: str) -> str:
    """Return FFmpeg's name of the codec for an encoding."""
    return _CODECS.get(subtype, subtype.lower())


def resolve(path: Path, format: str | None, subtype: str | None) -> tuple[str, str]:
    """Return the container and encoding to write a file in.

    Args:
        path: The file; its suffix counts where no container is given.
        format: Container, in any case; None: that of the suffix.
        subtype: Encoding, in any case; None: the usual one of the container.

    Returns:
        Container and encoding.

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


def output_container(info: AudioInfo, format_name: str = "keep") -> tuple[str, str]:
    """Return the container and encoding of the output for an input.

    WAV and FLAC keep the width of integer and float samples where they can hold it. FLAC stores
    wider ones in 24 bits; lossy inputs are stored in 16 bits.

    Args:
        info: Properties of the input.
        format_name: `keep`, or a format name, a key of `FORMAT_SUFFIXES`.

    Returns:
        Container and encoding.
    """
    if format_name == "keep":
        return info.format, info.subtype
    container, usual = CONTAINERS[FORMAT_SUFFIXES[format_name]]
    if format_name not in ("wav", "flac"):
        return container, usual
    subtype = info.subtype if info.subtype in _BYTES else "PCM_16"
    if format_name == "wav":
        return "WAV", "PCM_U8" if subtype == "PCM_S8" else subtype
    narrow = {"PCM_U8": "PCM_S8", "ULAW": "PCM_16", "ALAW": "PCM_16", "PCM_32": "PCM_24",
              "FLOAT": "PCM_24", "DOUBLE": "PCM_24"}
    return "FLAC", narrow.get(subtype, subtype)


def output_rate(info: AudioInfo, format_name: str = "keep") -> int:
    """Return the sample rate of the output for an input.

    Args:
        info: Properties of the input.
        format_name: `keep`, or a format name, a key of `FORMAT_SUFFIXES`.

    Returns:
        Hz: the input's rate, or the next higher one that the format can hold.
    """
    _, subtype = output_container(info, format_name)
    rates = {"OPUS": _OPUS_RATES, "MPEG_LAYER_III": _MP3_RATES}.get(subtype)
    if format_name == "keep" or rates is None or info.sample_rate in rates:
        return info.sample_rate
    return next((rate for rate in rates if rate >= info.sample_rate), rates[-1])


def output_bit_rate(
    info: AudioInfo, subtype: str, channels: int, wanted: int | None = None
) -> int | None:
    """Return the bit rate of the output for an input.

    Args:
        info: Properties of the input.
        subtype: Encoding of the output.
        channels: Number of channels of the output.
        wanted: Bits per second that the user asks for; None for that of the input.

    Returns:
        Bits per second. By itself that of a lossy input, in proportion to the channels; None for
        lossless outputs, and for the encoder's default.
    """
    if subtype not in _LOSSY:
        return None
    if wanted is not None:
        return wanted
    known = bit_rate(info) if info.subtype in _LOSSY else None
    if known is not None:
        return round(known * channels / info.channels)
    return _USUAL_RATES[subtype] * channels if subtype in _USUAL_RATES else None


def check_container(
    path: str | Path, sample_rate: int, channels: int, format: str, subtype: str, frames: int = 0
) -> None:
    """Refuse, before any work, what the container cannot hold.

    Args:
        path: The file that would be written, or its address; errors name it.
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        format: Container.
        subtype: Encoding.
        frames: Samples per channel.

    Raises:
        AudioError: When the container cannot hold this; says what, and the way out.
    """
    path = location(path)
    format, subtype = resolve(path, format, subtype)
    check_limits(path, sample_rate, channels, format, subtype)
    check_length(path, frames * channels, format, subtype)


def fitting_formats(info: AudioInfo, channels: int) -> list[str]:
    """Return the format names that could hold a recording, as the keys of `FORMAT_SUFFIXES`.

    Args:
        info: Properties of the recording.
        channels: Number of channels of the output.
    """
    fitting = []
    for name in FORMAT_SUFFIXES:
        with contextlib.suppress(AudioError):
            rate = output_rate(info, name)
            check_container(info.path, rate, channels, *output_container(info, name),
                            info.sure_frames)
            fitting.append(name)
    return fitting


def check_length(path: Path, samples: int, format: str, subtype: str) -> None:
    """Refuse more samples than the header of a container can count.

    Args:
        path: The file; errors name it.
        samples: Samples of all channels together.
        format: Container.
        subtype: Encoding.

    Raises:
        AudioError: When they are too many.
    """
    limit = _32_BIT_SIZES.get(format, math.inf) * 2**30 - 2**16
    if samples * _BYTES.get(subtype, 1) > limit:
        raise AudioError(
            f"{path}: longer than a {format} header can count; write .flac, .w64 or .rf64"
        )


def check_limits(path: Path, sample_rate: int, channels: int, format: str, subtype: str) -> None:
    """Refuse a rate or number of channels that the encoder cannot hold.

    libsndfile gives no reason, and its Vorbis encoder crashes the process beyond its limits.

    Args:
        path: The file; errors name it.
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        format: Container.
        subtype: Encoding.

    Raises:
        AudioError: When the encoder cannot hold this; says what, and the way out.
    """
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
