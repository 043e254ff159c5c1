"""Recordings encoded by FFmpeg, or MP3 by LAME, in containers that libsndfile does not write.

Arrays are float `[channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.audio.ffmpeg import (
    MediaError,
    convert_errors,
    kept_tags,
    load_av,
    reason_of,
    url_of,
)
from gan_denoise.audio.ffmpeg_encoders import LOSSLESS, add_encoder, layout_of
from gan_denoise.audio.mp3_encoder import Mp3Encoder, lame_scale, state_padding
from gan_denoise.audio.stream_copier import StreamCopier

if TYPE_CHECKING:
    import av

# Bare streams without a container: decoders do not recognise them by fewer frames than these.
_BARE, _LEAST_BARE_FRAMES = ("adts", "mp2", "ac3", "eac3"), 6


class FfmpegWriter:
    """A file whose audio is encoded block by block, with streams copied from a source.

    Attributes:
        lost: Names of the source's other streams that the container does not take.
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
            sample_rate: Sample rate in Hz.
            channels: Number of channels.
            bit_rate: Bits per second; None for the encoder's default.
            source: File whose tags, chapters and pictures are copied.
            others: Copy its video and further streams as well.

        Raises:
            MediaError: When the container or the codec cannot hold this.
            OSError: When a file cannot be opened.
        """
        self._av = load_av()
        self._path, self._format, self._codec = path, format.lower(), codec
        self._rate, self._channels, self._bit_rate = sample_rate, channels, bit_rate
        self._done = 0  # samples per channel
        self._offset = 0  # samples before the first, beside a video that starts earlier
        self._delay_is_removed = False
        self._copier: StreamCopier | None = None
        self._mp3: Mp3Encoder | None = None
        try:
            self._begin(source, copy=True, pictures_only=not others)
            self.lost = [] if self._copier is None else self._copier.lost
        except MediaError:
            if self._copier is None or self._copier.is_empty:
                raise
            # A picture that says it is a JPEG and is none, a stream that the container rejects.
            self.lost = self._copier.lost + self._copier.copied
            self._begin(source, copy=False)

    def _begin(self, source: Path | None, copy: bool, pictures_only: bool = True) -> None:
        """Open both files and write the header.

        Args:
            source: File whose tags are copied.
            copy: Whether streams of the source are copied.
            pictures_only: Whether they are no more than its pictures.
        """
        av = self._av
        movable = self._format in ("mp4", "mov", "ipod")
        self._container = av.open(url_of(self._path), "w", format=self._format,
                                  options={"movflags": "faststart"} if movable else {})
        self._copier = None
        try:
            if source is not None:
                self._copier = StreamCopier(source, self._container)
            main = None if self._copier is None else self._copier.main
            self._layout = layout_of(main, self._channels)
            if main is None:
                self._add_encoder(None)
            else:
                self._add_streams(main, copy, pictures_only)
            self._container.start_encoding()
            if self._format == self._codec == "mp3":
                self._mp3 = Mp3Encoder(self._stream, self._rate, self._channels,
                                       self._stream.bit_rate)
        except (av.error.FFmpegError, ValueError) as error:
            self.abort()
            raise MediaError(reason_of(error)) from error
        except BaseException:
            self.abort()
            raise

    def _add_streams(
        self, main: av.AudioStream, copy: bool, pictures_only: bool
    ) -> None:
        """Add the encoder in the place of the main audio, and streams that are copied; copy tags.

        Args:
            main: PyAV's main audio stream of the source.
            copy: Whether streams are copied.
            pictures_only: Whether they are no more than pictures.
        """
        copier = self._copier
        for stream in copier.streams:
            if stream.index == main.index:
                self._add_encoder(main.codec_context.format.packed.name)
            elif copy:
                copier.add(stream, pictures_only)
        self._container.metadata.update(kept_tags(copier.container.metadata))
        self._stream.metadata.update(kept_tags(main.metadata))
        chapters = copier.container.chapters()
        if chapters:
            self._container.set_chapters(chapters)
        offset = copier.start(self._rate)
        if offset is not None:
            self._offset = offset

    def _add_encoder(self, sample_format: str | None) -> None:
        self._stream = add_encoder(self._container, self._codec, self._rate, self._layout,
                                   self._bit_rate, sample_format)

    def write(self, audio: np.ndarray) -> None:
        """Append a block.

        Args:
            audio: float `[channels, samples]`, full scale at +-1.

        Raises:
            MediaError, OSError: When it cannot be written.
        """
        if not audio.shape[1]:
            return
        block = np.ascontiguousarray(audio, np.float32)
        context = self._stream.codec_context
        if not self._done and context.name.startswith("wma"):
            # Its decoders drop the first frame: here it is one of silence.
            silence = np.zeros((self._channels, context.frame_size), np.float32)
            block = np.concatenate([silence, block], axis=1)
        frame = None if self._mp3 is not None else self._frame(block)
        self._done += block.shape[1]
        with convert_errors():
            self._mux(self._mp3.encode(block) if frame is None else self._stream.encode(frame))

    def _frame(self, block: np.ndarray) -> av.AudioFrame:
        """Return the next `[channels, samples]` as a frame."""
        if self._codec == "mp3":
            block = block / np.float32(lame_scale(self._rate, self._stream.bit_rate))
        frame = self._av.AudioFrame.from_ndarray(block, format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._offset + self._done
        return frame

    def close(self) -> None:
        """Write what the encoder still holds, the rest of the copied streams, and the index.

        Raises:
            MediaError, OSError: When it cannot be written.
        """
        frames = _LEAST_BARE_FRAMES if self._format in _BARE else 1
        short = frames * self._stream.codec_context.frame_size - self._done
        if self._done and short > 0 and self._stream.codec_context.name not in LOSSLESS:
            # Of fewer samples some decoders give nothing at all.
            self.write(np.zeros((self._channels, short), np.float32))
        with convert_errors():
            self._mux(self._stream.encode(None) if self._mp3 is None else self._mp3.flush())
            if self._copier is not None:
                self._copier.copy_until(None)
            self._container.close()
        if self._mp3 is not None and self._done:
            state_padding(self._path, self._mp3.padding)
        self._close_source()

    def abort(self) -> None:
        """Close both files and ignore errors: the file is not kept."""
        with contextlib.suppress(Exception):
            self._container.close()
        self._close_source()

    def _mux(self, packets: Iterable[av.Packet]) -> None:
        """Write encoded packets, and the other streams up to their time."""
        for packet in packets:
            if self._format == "adts" and not self._delay_is_removed:
                self._delay_is_removed = True  # the encoder's delay, which ADTS cannot state
                continue
            if self._copier is not None and not self._copier.is_empty:
                self._copy_until(packet)
            self._container.mux(packet)

    def _copy_until(self, packet: av.Packet) -> None:
        """Copy the other streams up to the time of a packet."""
        at = packet.dts if packet.dts is not None else packet.pts
        if at is not None and packet.time_base:
            self._copier.copy_until(at * packet.time_base)

    def _close_source(self) -> None:
        if self._copier is not None:
            self._copier.close()
