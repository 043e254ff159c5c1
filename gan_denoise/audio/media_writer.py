"""Containers and codecs that libsndfile has not, written by FFmpeg; a video keeps its picture.

Arrays are float `[channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.audio.ffmpeg import (
    MediaError,
    is_picture,
    kept_tags,
    library,
    open_input,
    reason_of,
    reasons,
    url_of,
)

# Codecs whose encoder has another name. FFmpeg's own Vorbis encoder is experimental.
_ENCODERS = {"mp3": "libmp3lame", "opus": "libopus", "amr_nb": "libopencore_amrnb", "vorbis": None}
_OPTIONS = {"aac": {"aac_coder": "fast"}, "libmp3lame": {"compression_level": "7"}}
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_STEPS = {"libopencore_amrnb": (4750, 5150, 5900, 6700, 7400, 7950, 10200, 12200),
          "ac3": tuple(1000 * rate for rate in (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224,
                                                256, 320, 384, 448, 512, 576, 640))}  # fmt: skip
_LOSSLESS = ("alac", "flac", "wavpack", "tta")
# Sample formats by preference, where the source's own is not among the encoder's.
_FLOAT_FIRST = ("fltp", "flt", "s16p", "s16", "s32p", "s32")
_SHORT_FIRST = ("s16p", "s16", "s32p", "s32", "fltp", "flt")
_USUAL_BIT_RATE = 64_000  # of a channel; what is not lossy takes none
_BARE = ("adts", "mp2", "ac3", "eac3")  # no container: few frames are not known for what they are


class MediaWriter:
    """A file whose audio is encoded block by block; other streams of a source are copied.

    Attributes:
        lost: What of the source's other streams the container does not take.
    """

    def __init__(
        self, path: Path, format: str, codec: str, sample_rate: int, channels: int,
        bit_rate: int | None = None, source: Path | None = None, others: bool = False,
    ) -> None:  # fmt: skip
        """Open a file for writing.

        Args:
            path: The file.
            format: FFmpeg's name of the container, in any case.
            codec: FFmpeg's name of the codec.
            sample_rate: In Hz.
            channels: Count of channels.
            bit_rate: Bits per second; None: the encoder's default.
            source: File whose tags, chapters and pictures are copied.
            others: Copy also its video and other streams.

        Raises:
            MediaError: When the container or the codec cannot hold this.
        """
        self._av = library()
        self._rate, self._channels, self._done = sample_rate, channels, 0
        self._source: Any = None
        self._others: dict[int, Any] = {}  # index of a stream of the source -> its copy
        self._waiting: Iterator[Any] = iter(())
        self._next: Any = None
        self._offset = 0
        self.lost: list[str] = []
        self._path, self._muxer = path, format.lower()
        self._begun = False
        self._codec, self._bit_rate = codec, bit_rate
        try:
            self._begin(source, others)
        except MediaError:
            if not self._others:
                raise
            # A picture that says it is a JPEG and is none, a stream that the muxer finds odd.
            self.lost += self._copied
            self._begin(source, None)
        except BaseException:
            self.abort()
            raise

    def _begin(self, source: Path | None, others: bool | None) -> None:
        """Open both files and write the header; None: without any other stream, also pictures."""
        av = self._av
        self._others, self._copied = {}, []
        movable = self._muxer in ("mp4", "mov", "ipod")
        self._container = av.open(url_of(self._path), "w", format=self._muxer,
                                  options={"movflags": "faststart"} if movable else {})
        try:
            main = None
            if source is not None:
                self._source = open_input(source, {})
                main = self._source.streams.best("audio")
            self._layout = _layout_of(main, self._channels)
            for stream in self._source.streams if main is not None else ():
                if stream.index == main.index:  # among the others in its place
                    self._add_encoder(main)
                elif others is not None:
                    self._add_copy(stream, others)
            if main is None:
                self._add_encoder(None)
            else:
                self._copy_tags(main)
                self._follow(main)
            self._container.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:
            self.abort()
            raise MediaError(reason_of(error)) from error

    def write(self, audio: np.ndarray) -> None:
        """Append a block, `[channels, samples]`.

        Raises:
            MediaError, OSError: When it cannot be written.
        """
        if not audio.shape[1]:
            return
        block = np.ascontiguousarray(audio, np.float32)
        if not self._done and self._stream.codec_context.name.startswith("wma"):
            # Its decoders swallow the first frame: here it is one of silence.
            silence = np.zeros((self._channels, self._stream.codec_context.frame_size), np.float32)
            block = np.concatenate([silence, block], axis=1)
        frame = self._av.AudioFrame.from_ndarray(block, format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._offset + self._done
        self._done += block.shape[1]
        self._put(frame)

    def close(self) -> None:
        """Write what remains, and the index.

        Raises:
            MediaError, OSError: When it cannot be written.
        """
        frames = 6 if self._muxer in _BARE else 1
        short = frames * self._stream.codec_context.frame_size - self._done
        if self._done and short > 0 and self._stream.codec_context.name not in _LOSSLESS:
            # Or some decoders would give nothing at all.
            self.write(np.zeros((self._channels, short), np.float32))
        with reasons():
            self._encode(None)
            self._copy_until(None)
            self._container.close()
        self._close_source()

    def abort(self) -> None:
        """Close without a word: the file is worth nothing."""
        with contextlib.suppress(Exception):
            self._container.close()
        self._close_source()

    def _put(self, frame: Any) -> None:
        with reasons():
            self._encode(frame)

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            if self._muxer == "adts" and not self._begun:
                self._begun = True  # the encoder's own delay, which no header of ADTS tells
                continue
            at = packet.dts if packet.dts is not None else packet.pts
            if at is not None and packet.time_base:
                self._copy_until(at * packet.time_base)
            self._container.mux(packet)

    def _copy_until(self, seconds: Fraction | None) -> None:
        """Copy the packets of other streams up to a time; None: all."""
        while self._others:
            packet = self._next or next(self._waiting, None)
            self._next = None
            if packet is None:
                return
            if not packet.size:
                continue
            at = packet.dts if packet.dts is not None else packet.pts or 0
            if seconds is not None and at * packet.time_base > seconds:
                self._next = packet
                return
            packet.stream = self._others[packet.stream.index]
            self._container.mux(packet)

    def _add_encoder(self, main: Any) -> None:
        kind = main.codec_context.format.packed.name if main is not None else None
        self._stream = _add_encoder(self._container, self._codec, self._rate, self._layout,
                                    self._bit_rate, kind)

    def _add_copy(self, stream: Any, moving: bool) -> None:
        """Add a stream that is copied: a picture, or, where `moving`, any that can be."""
        name = f"stream {stream.index} ({stream.type})"
        picture = is_picture(stream)  # which is told by its tag where it is lost
        wanted = moving and stream.type in ("video", "subtitle", "audio")
        if not wanted and not picture:
            self.lost.append(name)
            return
        try:
            copy = self._container.add_stream_from_template(stream, opaque=True)
        except (self._av.error.FFmpegError, ValueError, TypeError):
            self.lost += [] if picture else [name]
            return
        self._copied += [] if picture else [name]
        copy.metadata.update(kept_tags(stream.metadata))
        with contextlib.suppress(Exception):  # not all kinds have one
            copy.disposition = stream.disposition
        self._others[stream.index] = copy

    def _follow(self, main: Any) -> None:
        """Begin to read the copied streams; the sound starts where it did beside a picture."""
        chosen = [stream for stream in self._source.streams if stream.index in self._others]
        if not chosen:
            return
        self._waiting = self._source.demux(chosen)
        if main.start_time and any(stream.type == "video" and not is_picture(stream)
                                   for stream in chosen):
            self._offset = max(round(main.start_time * main.time_base * self._rate), 0)

    def _copy_tags(self, main: Any) -> None:
        self._container.metadata.update(kept_tags(self._source.metadata))
        self._stream.metadata.update(kept_tags(main.metadata))
        chapters = self._source.chapters()
        if chapters:
            self._container.set_chapters(chapters)

    def _close_source(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None


def encoder_of(codec: str) -> str | None:
    """Return the name of the encoder for a codec, None where there is none that is fit."""
    name = _ENCODERS.get(codec, codec)
    if name is None:
        return None
    try:
        library().codec.Codec(name, "w")
    except ValueError:
        return None
    return name


def check_encoder(format: str, codec: str, sample_rate: int, channels: int) -> None:
    """Try a container and codec without writing anything.

    Raises:
        MediaError: When they cannot hold this.
    """
    av = library()
    try:
        with av.open(os.devnull, "w", format=format.lower()) as container:
            _add_encoder(container, codec, sample_rate, _layout_of(None, channels), None)
            container.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(reason_of(error)) from error


def _add_encoder(
    container: Any, codec: str, sample_rate: int, layout: str, bit_rate: int | None,
    sample_format: str | None = None,
) -> Any:  # fmt: skip
    name = encoder_of(codec)
    if name is None:
        raise MediaError(f"{codec} can be read, but not written")
    rates = library().codec.Codec(name, "w").audio_rates
    if rates and sample_rate not in rates:
        raise MediaError(f"{codec} cannot hold {sample_rate} Hz, only "
                         f"{', '.join(map(str, sorted(rates)))}")
    stream = container.add_stream(name, rate=sample_rate, layout=layout,
                                  options=_OPTIONS.get(name, {}))
    if name in ("g726", "adpcm_g726") and bit_rate is not None:
        stream.options = {"code_size": str(min(max(round(bit_rate / sample_rate), 2), 5))}
    bits = bit_rate or _USUAL_BIT_RATE * stream.codec_context.channels
    steps = _STEPS.get(name)
    stream.bit_rate = min(steps, key=lambda step: abs(step - bits)) if steps else bits
    formats = [kind.name for kind in library().codec.Codec(name, "w").audio_formats or ()]
    preferred = _SHORT_FIRST if name in _LOSSLESS else _FLOAT_FIRST
    if name in _LOSSLESS and sample_format is not None:
        preferred = (sample_format, f"{sample_format}p", *preferred)
    if formats:
        stream.codec_context.format = next((kind for kind in preferred if kind in formats),
                                           formats[0])
    stream.codec_context.thread_count = 1
    return stream


def _layout_of(stream: Any, channels: int) -> str:
    if stream is not None and stream.codec_context.channels == channels:
        name = stream.codec_context.layout.name
        if "channels" not in name:  # an order that is not known
            return name
    if channels not in _LAYOUTS:
        raise MediaError(f"cannot hold {channels} channels")
    return _LAYOUTS[channels]
