"""Containers and codecs that libsndfile has not, read by FFmpeg: what phones, browsers and video
cameras give. Also MP3, whose length libsndfile takes from an estimate.

Arrays are float `[channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.audio.ffmpeg import MediaError, library, open_input, reasons

# FFmpeg's name of a container that is read -> of the one that is written.
_MUXERS = {"aac": "adts", "matroska,webm": "matroska", "mov,mp4,m4a,3gp,3g2,mj2": "mp4"}
_BRANDS = {"qt": "mov", "M4A": "ipod", "M4B": "ipod", "M4V": "mp4", "3gp": "3gp", "3g2": "3g2"}
# Containers whose header says how long they are.
_TIMED = ("matroska,webm", "asf", "avi", "flv", "caf", "wv", "tta", "ape")
_MISSING_SECONDS = 0.5  # a shorter difference to the length in the header is no loss
_MP3_FRAME = 1152  # samples, or half as many; a decoder's delay and a frame's rest are no more
_LONGEST_SECONDS = 10**8  # three years; a header that promises more knows nothing
_RATE_PACKETS = 500  # whose sizes tell a bit rate that no header does


class MediaReader:
    """The main audio stream of a file, decoded to its end; a context manager.

    Attributes:
        sample_rate: In Hz.
        channels: Count of channels.
        layout: FFmpeg's name of their order, for instance `5.1(side)`.
        format: Name of the container as FFmpeg writes it, in capitals.
        codec: FFmpeg's name of the codec.
        frames: Samples per channel that the container promises, or an estimate of them.
        bit_rate: Of the audio, bits per second; None where it takes reading the file.
        note: After the last block: what was unusual, while nothing is missing.
        cut_off: After the last block: what is missing.
    """

    def __init__(self, path: Path, ignore_length: bool = False, tells_length: bool = False):
        """Open a file.

        Args:
            path: The file.
            ignore_length: Read a WAV to the end of the file, whatever its header says.
            tells_length: Whether an MP3 has a header that tells its length, rightly or not.

        Raises:
            MediaError: When it is not readable, or holds no audio.
            OSError: When the file cannot be opened.
        """
        av = self._av = library()
        self._path = path
        self._container = open_input(path, {"ignore_length": "1"} if ignore_length else {})
        try:
            stream = self._container.streams.best("audio")
            if stream is None or not stream.codec_context.sample_rate:
                raise MediaError("holds no audio")
            self._stream = stream
            context = stream.codec_context
            context.thread_count = 1
            self.sample_rate, self.channels = context.sample_rate, context.channels
            self.layout = context.layout.name
            self.codec = _codec_name(context.codec.canonical_name or context.name)
            self.format = _muxer(self._container, self.codec, path).upper()
            self.note = self.cut_off = ""
            self.frames = self._promised() or 0
            self.bit_rate = context.bit_rate or (
                self._container.bit_rate if len(self._container.streams) == 1 else None) or None
            # FFmpeg cuts an MP3 where its header says that it ends, and goes on behind: here the
            # encoder's delay is cut off at the beginning, and what is known of its end at the end.
            self._before = self._told = 0
            if self.format == "MP3":
                self.bit_rate = None  # which may come of a wrong length
                context.flags2 |= av.codec.context.Flags2.skip_manual
                self._before = round((stream.start_time or 0) * stream.time_base * self.sample_rate)
                self._told = self.frames if tells_length else 0
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> MediaReader:
        return self

    def __exit__(self, *error: Any) -> None:
        self._container.close()

    def blocks(self, frames: int, dtype: str = "float32", start: int = 0) -> Iterator[np.ndarray]:
        """Yield `[channels, frames]` to the end; the last block may be shorter.

        Args:
            frames: Samples of a block.
            dtype: `float32` or `float64`.
            start: First sample; found by decoding what lies before.
        """
        waiting: list[np.ndarray] = []
        count, skip = 0, start
        with reasons():
            for piece in self._trimmed(self._pieces(np.dtype(dtype))):
                if skip:
                    piece, skip = piece[:, skip:], max(skip - piece.shape[1], 0)
                waiting.append(piece)
                count += piece.shape[1]
                while count >= frames:
                    joined = np.concatenate(waiting, axis=1)
                    yield np.ascontiguousarray(joined[:, :frames])
                    waiting, count = [joined[:, frames:]], count - frames
        if count:
            yield np.concatenate(waiting, axis=1)

    def average_bit_rate(self) -> int | None:
        """Return the bit rate, from the first packets where no header tells it.

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

    def _trimmed(self, pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Leave out what an MP3's encoder put before and behind the sound."""
        if not self._before and not self._told:
            yield from pieces
            return
        held, done, skip = np.zeros((self.channels, 0)), 0, self._before
        for piece in pieces:
            if skip:
                piece, skip = piece[:, skip:], max(skip - piece.shape[1], 0)
            held = np.concatenate([held.astype(piece.dtype), piece], axis=1)
            if held.shape[1] > 2 * _MP3_FRAME:
                yield held[:, : -_MP3_FRAME]
                done += held.shape[1] - _MP3_FRAME
                held = held[:, -_MP3_FRAME:]
        behind = done + held.shape[1] - self._told
        yield held[:, : held.shape[1] - behind] if 0 < behind <= _MP3_FRAME else held
        if self._told and not 0 <= behind <= _MP3_FRAME:
            rate = self.sample_rate
            self.note = (f"its header promises {self._told / rate:.2f} s, "
                         f"{(done + held.shape[1]) / rate:.2f} s are there; read to its end")

    def _pieces(self, dtype: np.dtype) -> Iterator[np.ndarray]:
        """Decode packet by packet; damaged ones are passed over and counted."""
        done = bad = 0
        resampler = None
        changed = False
        for packet in self._packets():
            try:
                decoded = packet.decode()
            except self._av.error.FFmpegError:
                bad += 1
                continue
            for frame in decoded:
                same = (frame.sample_rate == self.sample_rate
                        and frame.layout.nb_channels == self.channels)
                if not same:
                    changed = True
                    resampler = resampler or self._av.AudioResampler(
                        "fltp", self.layout, self.sample_rate)
                for part in (frame,) if same else resampler.resample(frame):
                    piece = _samples(part, dtype)
                    done += piece.shape[1]
                    yield piece
        if not done:
            raise MediaError("no audio in it can be decoded")
        if bad and not self.note:
            self.note = f"{bad} damaged packets passed over"
        if changed:
            self.note = "rate or channels change on the way; converted to those of its beginning"
        self.cut_off = self._missing(done)

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, self._av.error.InvalidDataError, self._av.error.EOFError):
                return
            yield packet

    def _promised(self) -> int | None:
        """Return how many samples the container says that there are."""
        stream, container = self._stream, self._container
        seconds: Any = None
        if container.format.name == "caf" and self.codec.startswith("pcm"):
            return stream.frames
        if stream.duration:
            seconds = stream.duration * stream.time_base
        elif told := stream.metadata.get("DURATION"):
            hours, minutes, rest = told.split(":")
            seconds = 3600 * int(hours) + 60 * int(minutes) + float(rest)
        elif container.duration:
            seconds = container.duration / self._av.time_base
        usable = seconds is not None and 0 < seconds < _LONGEST_SECONDS
        return round(seconds * self.sample_rate) if usable else None

    def _missing(self, done: int) -> str:
        name, stream = self._container.format.name, self._stream
        if name == "mov,mp4,m4a,3gp,3g2,mj2":
            size = self._path.stat().st_size
            entries = stream.index_entries
            behind = sum(entry.pos + entry.size > size for entry in entries)
            return f"{behind} of {len(entries)} packets are missing" if behind else ""
        told = stream.duration or "DURATION" in stream.metadata or len(
            self._container.streams) == 1
        short = ((self._promised() or 0) - done) / self.sample_rate
        if name in _TIMED and told and short > _MISSING_SECONDS:
            return f"{done / self.sample_rate:.2f} s of {self.frames / self.sample_rate:.2f} s " \
                   "are there"
        return ""


def _samples(frame: Any, dtype: np.dtype) -> np.ndarray:
    """Return a frame as float `[channels, samples]`."""
    raw = frame.to_ndarray()
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    kind = frame.format.packed.name
    if kind == "u8":
        return (raw.astype(dtype) - 128) / dtype.type(128)
    if raw.dtype.kind == "i":
        return raw.astype(dtype) * dtype.type(2.0 ** (1 - 8 * raw.dtype.itemsize))
    return raw.astype(dtype, copy=False)


def _muxer(container: Any, codec: str, path: Path) -> str:
    """Return the name under which FFmpeg writes a container with a codec."""
    name = container.format.name
    if (name, codec) == ("mp3", "mp2"):
        return "mp2"
    if name == "matroska,webm" and path.suffix.lower() == ".webm":
        return "webm"
    if name == "mov,mp4,m4a,3gp,3g2,mj2":
        brand = container.metadata.get("major_brand", "").strip()
        kinds = (kind for begin, kind in _BRANDS.items() if brand.startswith(begin))
        return next(kinds, "ipod" if path.suffix.lower() in (".m4a", ".m4b") else "mp4")
    return _MUXERS.get(name, name.split(",")[0])


def _codec_name(name: str) -> str:
    """Return FFmpeg's name of a codec, given that of one of its decoders."""
    return {"mp3float": "mp3", "libopus": "opus", "amrnb": "amr_nb", "amrwb": "amr_wb"}.get(
        name, name)
