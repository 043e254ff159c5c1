"""Recordings decoded by FFmpeg: the containers of phones, browsers and video cameras, which
libsndfile does not read; and MP3, whose length libsndfile only estimates.

Arrays are `float32` or `float64` `[channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.audio.ffmpeg import MediaError, convert_errors, load_av, open_input
from gan_denoise.audio.ffmpeg_names import codec_name, container_name

if TYPE_CHECKING:
    import av

# Containers whose header says how long they are.
_TIMED = ("matroska,webm", "asf", "avi", "flv", "caf", "wv", "tta", "ape")
_MISSING_SECONDS = 0.5  # a smaller difference from the length in the header is no loss
_MP3_PADDING = 1152 + 576  # samples; encoders add less at the end of an MP3
_LONGEST_SECONDS = 10**8  # three years; a longer duration in a header is no length
_JOINED = 2**14  # samples per channel that become an array at once
_RATE_PACKETS = 500  # packets whose sizes give a bit rate that no header has


class FfmpegReader:
    """The main audio stream of a file, decoded to its end; a context manager.

    Attributes:
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        layout: FFmpeg's name of the speaker layout, for instance `5.1(side)`.
        format: FFmpeg's name of the container when it writes one, in capitals.
        codec: FFmpeg's name of the codec.
        frames: Samples per channel that the container promises or estimates; 0 where it does not.
        bit_rate: Bit rate of the audio in bits per second; None where no header gives it.
        note: What was unusual although nothing is missing; complete after the last block.
        cut_off: What is missing; complete after the last block.
    """

    def __init__(self, path: Path, ignore_length: bool = False, states_length: bool = False):
        """Open a file.

        Args:
            path: The file.
            ignore_length: Read a WAV to the end of the file, whatever its header says.
            states_length: Whether an MP3 has a header that states its length, correct or not.

        Raises:
            MediaError: When it is not readable, or holds no audio.
            OSError: When the file cannot be opened.
        """
        self._av = load_av()
        self._path = path
        self._container = open_input(path, {"ignore_length": "1"} if ignore_length else {})
        self.note = self.cut_off = ""
        try:
            self._read_properties()
            self._delay = self._stated_frames = 0
            if self.format == "MP3":
                self._take_over_trimming(states_length)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> FfmpegReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def blocks(self, frames: int, dtype: str = "float32", start: int = 0) -> Iterator[np.ndarray]:
        """Yield the recording block by block.

        Args:
            frames: Samples per channel of a block.
            dtype: `float32` or `float64`.
            start: First sample; all before it is decoded and discarded.

        Yields:
            `[channels, frames]`; the last block may be shorter.

        Raises:
            MediaError: When nothing can be decoded.
            OSError: When the file cannot be read.
        """
        with convert_errors():
            pieces = self._decode(np.dtype(dtype))
            if self._delay or self._stated_frames:
                pieces = self._without_padding(pieces)
            yield from _in_blocks(_skip(pieces, start), frames)

    def average_bit_rate(self) -> int | None:
        """Return the bit rate in bits per second, from the first packets where no header has it.

        Nothing can be decoded afterwards.
        """
        if self.bit_rate is None:
            bits, seconds = 0, Fraction(0)
            for number, packet in enumerate(self._container.demux(self._stream)):
                if number > _RATE_PACKETS or not packet.size:
                    break
                bits += 8 * packet.size
                seconds += (packet.duration or 0) * packet.time_base
            self.bit_rate = round(bits / seconds) if seconds else None
        return self.bit_rate

    def _read_properties(self) -> None:
        container = self._container
        stream = container.streams.best("audio")
        context = None if stream is None else stream.codec_context
        if context is None or not context.sample_rate:  # none: FFmpeg has no decoder for it
            raise MediaError("holds no audio")
        self._stream = stream
        context.thread_count = 1
        self.sample_rate, self.channels = context.sample_rate, context.channels
        self.layout = context.layout.name
        self.codec = codec_name(context.codec.canonical_name or context.name)
        self.format = container_name(container, self.codec, self._path).upper()
        self.frames = self._promised_frames() or 0
        self.bit_rate = context.bit_rate or (
            container.bit_rate if len(container.streams) == 1 else None) or None

    def _take_over_trimming(self, states_length: bool) -> None:
        """Let this class and not FFmpeg remove what the encoder added to an MP3.

        FFmpeg removes the samples at which the header says that the MP3 ends, and decodes on behind
        them. Here the encoder's delay is removed at the beginning, and its padding at the end.
        """
        stream = self._stream
        self.bit_rate = None  # which may come of a wrong length
        stream.codec_context.flags2 |= self._av.codec.context.Flags2.skip_manual
        self._delay = round((stream.start_time or 0) * stream.time_base * self.sample_rate)
        self._stated_frames = self.frames if states_length else 0

    def _without_padding(self, pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Remove an MP3's delay and padding; note a stated length that is wrong."""
        stated, rate = self._stated_frames, self.sample_rate
        decoded = yield from _trim_end(_skip(pieces, self._delay), self.channels, stated)
        if stated and not 0 <= decoded - stated <= _MP3_PADDING:
            self.note = (f"its header promises {stated / rate:.2f} s, {decoded / rate:.2f} s are "
                         "there; read to its end")

    def _decode(self, dtype: np.dtype) -> Iterator[np.ndarray]:
        """Decode packet by packet, `[channels, any]`; damaged ones are left out and counted."""
        done = 0
        for frame in self._joined(self._frames()):
            piece = _to_float(frame, dtype)
            done += piece.shape[1]
            yield piece
        if not done:
            raise MediaError("no audio in it can be decoded")
        self.cut_off = self._missing(done)

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Yield the decoded frames, all of one rate and number of channels."""
        bad = 0
        resampler = None
        for packet in self._packets():
            try:
                decoded = packet.decode()
            except self._av.error.FFmpegError:
                bad += 1
                continue
            for frame in decoded:
                if (frame.sample_rate == self.sample_rate
                        and frame.layout.nb_channels == self.channels):
                    yield frame
                    continue
                resampler = resampler or self._av.AudioResampler(
                    "fltp", self.layout, self.sample_rate)
                yield from resampler.resample(frame)
        if bad and not self.note:
            self.note = f"{bad} damaged packets passed over"
        if resampler is not None:
            self.note = "rate or channels change on the way; converted to those of its beginning"

    def _joined(self, frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame]:
        """Join frames of one kind to longer ones: an array for each would cost more than decoding.
        """
        kind, fifo = None, self._av.AudioFifo()
        for frame in frames:
            before, kind = kind, (frame.format.name, frame.layout.name)
            if kind != before:
                if fifo.samples:
                    yield fifo.read()
                fifo = self._av.AudioFifo()
            frame.pts = None  # else times that jump are errors
            fifo.write(frame)
            if fifo.samples >= _JOINED:
                yield fifo.read()
        if fifo.samples:
            yield fifo.read()

    def _packets(self) -> Iterator[av.Packet]:
        """Yield the packets of the stream up to the end, or to where the container is damaged."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, self._av.error.InvalidDataError, self._av.error.EOFError):
                return
            yield packet

    def _promised_frames(self) -> int | None:
        """Return the samples per channel that the container states; None where it does not."""
        stream, container = self._stream, self._container
        seconds: float | Fraction | None = None
        if container.format.name == "caf" and self.codec.startswith("pcm"):
            return stream.frames
        if stream.duration:
            seconds = stream.duration * stream.time_base
        elif duration := stream.metadata.get("DURATION"):
            hours, minutes, rest = duration.split(":")
            seconds = 3600 * int(hours) + 60 * int(minutes) + float(rest)
        elif container.duration:
            seconds = container.duration / self._av.time_base
        usable = seconds is not None and 0 < seconds < _LONGEST_SECONDS
        return round(seconds * self.sample_rate) if usable else None

    def _missing(self, done: int) -> str:
        """Return what is missing of what the container states, in words; empty for nothing."""
        name, stream = self._container.format.name, self._stream
        if name == "mov,mp4,m4a,3gp,3g2,mj2":
            size = self._path.stat().st_size
            entries = stream.index_entries
            behind = sum(entry.pos + entry.size > size for entry in entries)
            return f"{behind} of {len(entries)} packets are missing" if behind else ""
        states_length = stream.duration or "DURATION" in stream.metadata or len(
            self._container.streams) == 1
        short = ((self._promised_frames() or 0) - done) / self.sample_rate
        if name in _TIMED and states_length and short > _MISSING_SECONDS:
            return f"{done / self.sample_rate:.2f} s of {self.frames / self.sample_rate:.2f} s " \
                   "are there"
        return ""


def _skip(pieces: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Leave out the first samples of `[channels, any]` pieces; some may become empty."""
    for piece in pieces:
        yield piece[:, samples:] if samples else piece
        samples = max(samples - piece.shape[1], 0)


def _in_blocks(pieces: Iterable[np.ndarray], frames: int) -> Iterator[np.ndarray]:
    """Join `[channels, any]` pieces to `[channels, frames]`; the last may be shorter."""
    waiting: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += piece.shape[1]
        while count >= frames:
            joined = np.concatenate(waiting, axis=1)
            yield np.ascontiguousarray(joined[:, :frames])
            waiting, count = [joined[:, frames:]], count - frames
    if count:
        yield np.concatenate(waiting, axis=1)


def _trim_end(
    pieces: Iterable[np.ndarray], channels: int, stated: int
) -> Generator[np.ndarray, None, int]:
    """Remove what is decoded after the stated end, if that is what an encoder adds to an MP3.

    Args:
        pieces: `[channels, any]`.
        channels: Number of channels.
        stated: Samples per channel that the header states; 0 where it does not.

    Returns:
        The samples per channel of all pieces.
    """
    held, done = np.zeros((channels, 0)), 0
    for piece in pieces:
        held = np.concatenate([held.astype(piece.dtype), piece], axis=1)
        if held.shape[1] > 2 * _MP3_PADDING:
            yield held[:, : -_MP3_PADDING]
            done += held.shape[1] - _MP3_PADDING
            held = held[:, -_MP3_PADDING:]
    behind = done + held.shape[1] - stated
    yield held[:, : held.shape[1] - behind] if 0 < behind <= _MP3_PADDING else held
    return done + held.shape[1]


def _to_float(frame: av.AudioFrame, dtype: np.dtype) -> np.ndarray:
    """Return PyAV's frame as float `[channels, samples]`."""
    raw = frame.to_ndarray()
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    if frame.format.packed.name == "u8":
        return (raw.astype(dtype) - 128) / dtype.type(128)
    if raw.dtype.kind == "i":
        return raw.astype(dtype) * dtype.type(2.0 ** (1 - 8 * raw.dtype.itemsize))
    return raw.astype(dtype, copy=False)
