"""Containers and codecs that libsndfile has not, through FFmpeg's libraries (PyAV): what phones,
browsers and video cameras give. Also MP3, whose length libsndfile takes from an estimate.

Arrays are float `[channels, samples]` with full scale at +-1. Nothing is read from a network.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

# FFmpeg's name of a container that is read -> of the one that is written.
_MUXERS = {"aac": "adts", "matroska,webm": "matroska", "mov,mp4,m4a,3gp,3g2,mj2": "mp4"}
_BRANDS = {"qt": "mov", "M4A": "ipod", "M4B": "ipod", "M4V": "mp4", "3gp": "3gp", "3g2": "3g2"}
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
# Containers that are read. Playlists and their like are not: they name other files, and addresses.
_READ = ("3g2,3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,bonk,caf,dsf,dss,dts,dtshd,dv,eac3,"
         "flac,flv,g722,g726,gsm,iff,ircam,ivf,loas,m4a,matroska,mj2,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,"
         "mpegts,mxf,nistsphere,nut,ogg,oma,paf,pvf,qcp,rm,rso,shn,sln,sox,tak,tta,truehd,voc,vqf,"
         "w64,wav,webm,wsd,wv,xwma")
# Containers whose header says how long they are.
_TIMED = ("matroska,webm", "asf", "avi", "flv", "caf", "wv", "tta", "ape")
_BARE = ("adts", "mp2", "ac3", "eac3")  # no container: few frames are not known for what they are
_MISSING_SECONDS = 0.5  # a shorter difference to the length in the header is no loss
_MP3_FRAME = 1152  # samples, or half as many; a decoder's delay and a frame's rest are no more
_LONGEST_SECONDS = 10**8  # three years; a header that promises more knows nothing
_RATE_PACKETS = 500  # whose sizes tell a bit rate that no header does
# Of the container and the codec, untrue of another file; and what every file of a kind has.
_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration",
              "DURATION", "ENCODER", "WMFSDKVersion", "WMFSDKNeeded", "DeviceConformanceTemplate",
              "IsVBR"}
_USUAL = {"vendor_id", "handler_name", "language"}


class MediaError(ValueError):
    """FFmpeg cannot read or write something; the message is the reason alone."""


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
        av = self._av = _library()
        self._path = path
        self._container = _open(path, {"ignore_length": "1"} if ignore_length else {})
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
        with _reasons():
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
        self._av = _library()
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
        self._container = av.open(_url(self._path), "w", format=self._muxer,
                                  options={"movflags": "faststart"} if movable else {})
        try:
            main = None
            if source is not None:
                self._source = _open(source, {})
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
            raise MediaError(_reason(error)) from error

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
        with _reasons():
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
        with _reasons():
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
        picture = _is_picture(stream)  # which is told by its tag where it is lost
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
        copy.metadata.update(_kept(stream.metadata))
        with contextlib.suppress(Exception):  # not all kinds have one
            copy.disposition = stream.disposition
        self._others[stream.index] = copy

    def _follow(self, main: Any) -> None:
        """Begin to read the copied streams; the sound starts where it did beside a picture."""
        chosen = [stream for stream in self._source.streams if stream.index in self._others]
        if not chosen:
            return
        self._waiting = self._source.demux(chosen)
        if main.start_time and any(stream.type == "video" and not _is_picture(stream)
                                   for stream in chosen):
            self._offset = max(round(main.start_time * main.time_base * self._rate), 0)

    def _copy_tags(self, main: Any) -> None:
        self._container.metadata.update(_kept(self._source.metadata))
        self._stream.metadata.update(_kept(main.metadata))
        chapters = self._source.chapters()
        if chapters:
            self._container.set_chapters(chapters)

    def _close_source(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None


def tags(path: Path) -> dict[str, str]:
    """Return the text tags of a file, its pictures and chapters by name; those of the codec and
    container themselves are left out. Empty where FFmpeg does not know the file."""
    try:
        with _open(path, {}) as container:
            found = _kept(container.metadata)
            for stream in container.streams:
                if stream.type == "audio":
                    found |= _kept(stream.metadata)
                elif _is_picture(stream):
                    found["picture"] = "1"
            if container.chapters():
                found["chapters"] = "1"
            return {name.casefold(): text for name, text in found.items() if name not in _USUAL}
    except (MediaError, OSError):
        return {}


def encoder_of(codec: str) -> str | None:
    """Return the name of the encoder for a codec, None where there is none that is fit."""
    name = _ENCODERS.get(codec, codec)
    if name is None:
        return None
    try:
        _library().codec.Codec(name, "w")
    except ValueError:
        return None
    return name


def check_encoder(format: str, codec: str, sample_rate: int, channels: int) -> None:
    """Try a container and codec without writing anything.

    Raises:
        MediaError: When they cannot hold this.
    """
    av = _library()
    try:
        with av.open(os.devnull, "w", format=format.lower()) as container:
            _add_encoder(container, codec, sample_rate, _layout_of(None, channels), None)
            container.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(_reason(error)) from error


def _add_encoder(
    container: Any, codec: str, sample_rate: int, layout: str, bit_rate: int | None,
    sample_format: str | None = None,
) -> Any:  # fmt: skip
    name = encoder_of(codec)
    if name is None:
        raise MediaError(f"{codec} can be read, but not written")
    rates = _library().codec.Codec(name, "w").audio_rates
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
    formats = [kind.name for kind in _library().codec.Codec(name, "w").audio_formats or ()]
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


def _kept(metadata: Any) -> dict[str, str]:
    return {name: text for name, text in metadata.items() if name not in _TECHNICAL and text}


def _is_picture(stream: Any) -> bool:
    return stream.type == "video" and bool(
        stream.disposition & _library().stream.Disposition.attached_pic)


def _open(path: Path, options: dict[str, str]) -> Any:
    av = _library()
    if not path.exists():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        return av.open(_url(path), metadata_errors="replace", options={
            "protocol_whitelist": "file", "format_whitelist": _READ, **options})
    except av.error.FFmpegError as error:
        raise MediaError(_reason(error)) from error


def _url(path: Path) -> str:
    return f"file:{path}"  # or a name with a colon would be an address


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turn FFmpeg's errors into ours, but for those that are the system's, which have a number."""
    try:
        yield
    except _library().error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise MediaError(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]


def _library() -> Any:
    # The handler of a signal, which ends the process by an exception, would break the import.
    masks = "av" not in sys.modules and hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if masks else ()
    try:
        import av
    except ImportError as error:
        raise MediaError(f"reading it takes the package av, which is not usable here ({error}): "
                         "pip install av") from error
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return av
