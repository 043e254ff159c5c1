"""FFmpeg's encoders: which one writes a codec, and its settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gan_denoise.audio.ffmpeg import MediaError, load_av, reason_of

if TYPE_CHECKING:
    import av

# Codecs whose encoder has another name. FFmpeg's own Vorbis encoder is experimental.
_ENCODERS = {"mp3": "libmp3lame", "opus": "libopus", "amr_nb": "libopencore_amrnb", "vorbis": None}
_OPTIONS = {"aac": {"aac_coder": "fast"}, "libmp3lame": {"compression_level": "7"}}
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_BIT_RATES = {  # bits per second, of encoders that take no others
    "libopencore_amrnb": (4750, 5150, 5900, 6700, 7400, 7950, 10200, 12200),
    "ac3": tuple(1000 * rate for rate in (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256,
                                          320, 384, 448, 512, 576, 640)),
}  # fmt: skip
LOSSLESS = ("alac", "flac", "wavpack", "tta")
# Sample formats by preference, where the encoder does not take that of the source.
_FLOAT_FIRST = ("fltp", "flt", "s16p", "s16", "s32p", "s32")
_SHORT_FIRST = ("s16p", "s16", "s32p", "s32", "fltp", "flt")
_USUAL_BIT_RATE = 64_000  # bits per second and channel; lossless encoders ignore it


def encoder_of(codec: str) -> str | None:
    """Return the name of the encoder for a codec; None where FFmpeg has no mature one."""
    name = _ENCODERS.get(codec, codec)
    if name is None:
        return None
    try:
        load_av().codec.Codec(name, "w")
    except ValueError:
        return None
    return name


def check_encoder(format: str, codec: str, sample_rate: int, channels: int) -> None:
    """Try a container and codec without writing a file.

    Args:
        format: FFmpeg's name of the container, in any case.
        codec: FFmpeg's name of the codec.
        sample_rate: Sample rate in Hz.
        channels: Number of channels.

    Raises:
        MediaError: When they cannot hold this.
    """
    av = load_av()
    try:
        with av.open(os.devnull, "w", format=format.lower()) as container:
            add_encoder(container, codec, sample_rate, layout_of(None, channels), None)
            container.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(reason_of(error)) from error


def add_encoder(
    container: av.container.OutputContainer, codec: str, sample_rate: int, layout: str,
    bit_rate: int | None, sample_format: str | None = None,
) -> av.AudioStream:  # fmt: skip
    """Add a stream of audio to a container.

    Args:
        container: PyAV's container, open for writing.
        codec: FFmpeg's name of the codec.
        sample_rate: Sample rate in Hz.
        layout: FFmpeg's name of the speaker layout.
        bit_rate: Bits per second; None for 64 kbit/s and channel.
        sample_format: FFmpeg's name of the source's sample format, which lossless codecs keep.

    Returns:
        PyAV's stream.

    Raises:
        MediaError: When there is no encoder, or it does not take the rate.
    """
    name = encoder_of(codec)
    if name is None:
        raise MediaError(f"{codec} can be read, but not written")
    rates = load_av().codec.Codec(name, "w").audio_rates
    if rates and sample_rate not in rates:
        raise MediaError(f"{codec} cannot hold {sample_rate} Hz, only "
                         f"{', '.join(map(str, sorted(rates)))}")
    stream = container.add_stream(name, rate=sample_rate, layout=layout,
                                  options=_OPTIONS.get(name, {}))
    if name in ("g726", "adpcm_g726") and bit_rate is not None:
        stream.options = {"code_size": str(min(max(round(bit_rate / sample_rate), 2), 5))}
    bits = bit_rate or _USUAL_BIT_RATE * stream.codec_context.channels
    taken = _BIT_RATES.get(name)
    stream.bit_rate = min(taken, key=lambda rate: abs(rate - bits)) if taken else bits
    formats = [kind.name for kind in load_av().codec.Codec(name, "w").audio_formats or ()]
    preferred = _SHORT_FIRST if name in LOSSLESS else _FLOAT_FIRST
    if name in LOSSLESS and sample_format is not None:
        preferred = (sample_format, f"{sample_format}p", *preferred)
    if formats:
        stream.codec_context.format = next((kind for kind in preferred if kind in formats),
                                           formats[0])
    stream.codec_context.thread_count = 1
    return stream


def layout_of(stream: av.AudioStream | None, channels: int) -> str:
    """Return the speaker layout to write.

    Args:
        stream: PyAV's audio stream of the source, whose layout is kept where it has as many
            channels; None without a source.
        channels: Number of channels.

    Raises:
        MediaError: When there is no layout of so many channels.
    """
    if stream is not None and stream.codec_context.channels == channels:
        name = stream.codec_context.layout.name
        if "channels" not in name:  # "6 channels": their order is not known
            return name
    if channels not in _LAYOUTS:
        raise MediaError(f"cannot hold {channels} channels")
    return _LAYOUTS[channels]
