"""Recordings read to their end: how long one is, is what decoding gives, not what a header says.

libsndfile decodes what it knows and what tells its length truly, FFmpeg everything else. A
recording is whole; or whole while its header is wrong, which is noted; or cut off: then what is
there is read, and what is missing is said.

Arrays are `float32 [channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from gan_denoise.audio.ffmpeg import MediaError
from gan_denoise.audio.headers import Header, examine_header
from gan_denoise.audio.media_reader import MediaReader
from gan_denoise.audio.samples import resample, to_mono
from gan_denoise.core.errors import GanDenoiseError

_SNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff", b"fLaC", b"OggS", b"NIST",
                  b".snd", b"dns.", b"Crea", b"2BIT", b" paf", b"fap ")  # fmt: skip
_SUBTYPES = {"pcm_u8": "PCM_U8", "pcm_s16le": "PCM_16", "pcm_s24le": "PCM_24",
             "pcm_s32le": "PCM_32", "pcm_f32le": "FLOAT", "pcm_f64le": "DOUBLE"}
_NAMES = {"mp3": "MPEG_LAYER_III", "mp2": "MPEG_LAYER_II"}  # codecs that libsndfile names otherwise


class AudioError(GanDenoiseError):
    """A file that cannot be read or written: one line with the file, the reason, the way out."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file is, as far as its header tells it.

    Attributes:
        path: The file.
        sample_rate: In Hz.
        channels: Count of channels.
        frames: Samples per channel.
        format: libsndfile's name of the container, for instance `WAV`; FFmpeg's in capitals where
            libsndfile has none, for instance `MATROSKA`.
        subtype: libsndfile's name of the encoding, for instance `PCM_16`, or FFmpeg's.
        bit_rate: Of the audio, bits per second; None where it is not told.
        exact: Whether `frames` is sure; else it is a promise or an estimate of the header.
        note: In what the header is wrong while nothing is missing.
        cut_off: What is missing of what the header promises, as far as is known before reading.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    bit_rate: int | None = None
    exact: bool = True
    note: str = ""
    cut_off: str = ""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    @property
    def sure_frames(self) -> int:
        """Samples per channel that there are at least: none where the header is not sure."""
        return self.frames if self.exact else 0


class Reader:
    """A recording open for reading, once, from its beginning to its end; a context manager.

    Attributes:
        info: What the header says.
        frames: Samples per channel read so far.
        note: What is unusual about the file while nothing is missing; complete after the end.
        cut_off: What is missing; complete after the end.
    """

    def __init__(self, path: str | Path):
        """Open a file.

        Raises:
            AudioError: When it is missing, not readable, or no audio.
        """
        path = Path(path)
        self._file: soundfile.SoundFile | None = None
        self._media: MediaReader | None = None
        self._lengthless = ""
        try:
            if path.suffix.lower() == ".raw":
                raise AudioError(f"{path}: raw samples say neither their rate nor their encoding; "
                                 "give them a header, for instance with sox or ffmpeg")
            header = examine_header(path)
            self._links = header.links
            self._open(path, header)
            self.info = self._info(path, header)
        except (soundfile.LibsndfileError, MediaError, OSError) as error:
            self.close()
            raise _unreadable(path, error) from error
        except BaseException:
            self.close()
            raise
        self.frames = 0
        self.note, self.cut_off = self.info.note, self.info.cut_off

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        if self._media is not None:
            self._media.__exit__()

    def blocks(self, frames: int, dtype: str = "float32", start: int = 0) -> Iterator[np.ndarray]:
        """Yield the recording block by block, in memory that does not grow with it.

        Args:
            frames: Samples of a block.
            dtype: `float32`, or `float64` for encodings of more than 24 bits.
            start: First sample.

        Yields:
            `[channels, samples]`, `frames` samples but for the last.

        Raises:
            AudioError: When decoding fails, or a block holds NaN or infinite samples.
        """
        path = self.info.path
        source = self._media.blocks(frames, dtype, start) if self._media else self._decoded(
            frames, dtype, start)
        try:
            for block in source:
                _check_finite(path, block)
                self.frames += block.shape[1]
                yield block
        except (soundfile.LibsndfileError, MediaError, OSError) as error:
            raise _unreadable(path, error) from error
        if self._media is not None:
            self.note = self.note or self._media.note
            self.cut_off = self.cut_off or self._media.cut_off
        elif start + self.frames < self.info.frames and not self.cut_off:
            rate = self.info.sample_rate
            self.cut_off = (f"{(start + self.frames) / rate:.2f} s of {self.info.seconds:.2f} s "
                            "can be decoded")
        if not self.frames and not start:
            raise _empty(path)

    def _decoded(self, frames: int, dtype: str, start: int) -> Iterator[np.ndarray]:
        file = self._file
        if self._links:
            yield from self._linked(frames, dtype, start)
            return
        if start:
            try:
                file.seek(start)
            except soundfile.LibsndfileError:  # GSM, G.721 and others cannot seek
                left = start
                while left and (got := len(file.read(min(left, 2**16), dtype="float32"))):
                    left -= got
        while True:
            block = file.read(frames, dtype=dtype, always_2d=True)
            if len(block):
                yield np.ascontiguousarray(block.T)
            if len(block) < frames:
                return

    def _linked(self, frames: int, dtype: str, start: int) -> Iterator[np.ndarray]:
        """Decode the streams of an Ogg that has one after the other."""
        waiting = np.zeros((0, self.info.channels), dtype)
        for link in self._links:
            with soundfile.SoundFile(_Part(self.info.path, *link)) as file:
                if (file.samplerate, file.channels) != (self.info.sample_rate, self.info.channels):
                    raise MediaError("rate or channels change on the way")
                while len(block := file.read(frames, dtype=dtype, always_2d=True)):
                    block, start = block[start:], max(start - len(block), 0)
                    waiting = np.concatenate([waiting, block])
                    while len(waiting) >= frames:
                        yield np.ascontiguousarray(waiting[:frames].T)
                        waiting = waiting[frames:]
        if len(waiting):
            yield np.ascontiguousarray(waiting.T)

    def _open(self, path: Path, header: Header) -> None:
        """Open by libsndfile where that is sure to read to the end, else by FFmpeg."""
        fault: Exception | None = None
        if (where := header.samples) is not None:
            self._file = soundfile.SoundFile(
                _Part(path, where.begin, where.end), "r", where.sample_rate, where.channels,
                where.subtype, where.endian, "RAW",
            )
            return
        with open(path, "rb") as file:
            known = file.read(4).startswith(_SNDFILE_MAGIC)
        if known and header.honest:
            try:
                file = soundfile.SoundFile(
                    _Part(path, *header.links[0]) if header.links else native_name(path))
                self._file = file
                lengthless = (file.frames <= 0 and header.frames is None
                              and path.stat().st_size > 2**12)
                if not lengthless and not file.subtype.startswith("MPEG"):
                    return
                if lengthless:
                    self._lengthless = "its header was never finished; read to its end"
            except soundfile.LibsndfileError as error:
                fault = error
        try:
            self._media = MediaReader(path, not header.honest, header.tells_length)
        except MediaError as error:
            if self._file is not None:  # a length of zero is told by `blocks`
                return
            if fault is None and not known:  # rarer containers of libsndfile
                with suppress(soundfile.LibsndfileError):
                    self._file = soundfile.SoundFile(native_name(path))
                    return
            raise fault or error from error
        if self._file is not None:
            self._file.close()
            self._file = None

    def _info(self, path: Path, header: Header) -> AudioInfo:
        told = {"note": header.note, "cut_off": header.cut_off}
        file, media, where = self._file, self._media, header.samples
        if where is not None:
            return AudioInfo(path, where.sample_rate, where.channels, file.frames, where.format,
                             where.subtype, **told)
        if file is not None:
            if not header.cut_off and file.format != "WAV":
                told |= _logged(file)
            frames = file.frames + sum(_frames_of(path, link) for link in header.links[1:])
            return AudioInfo(
                path, file.samplerate, file.channels, frames, file.format, file.subtype,
                _bit_rate(path, file, header), **told,
            )
        told["note"] = told["note"] or self._lengthless
        container, subtype = media.format, _NAMES.get(media.codec, media.codec.upper())
        if not header.honest:  # libsndfile's names, and its encoders
            with suppress(soundfile.LibsndfileError), soundfile.SoundFile(
                    native_name(path)) as known:
                container = known.format
                subtype = _SUBTYPES.get(media.codec, known.subtype)
        return AudioInfo(
            path, media.sample_rate, media.channels, header.frames or media.frames, container,
            subtype, media.bit_rate, exact=header.frames is not None, **told,
        )


def probe(path: str | Path, count: bool = False) -> AudioInfo:
    """Read a file's header.

    Args:
        path: The file.
        count: Decode the file where its header does not tell for sure how long it is.

    Raises:
        AudioError: When the file is missing, not readable, or no audio. A well-formed file of zero
            length is no error here, but one in `read`.
    """
    with Reader(path) as reader:
        info = reader.info
        if count and not info.exact:
            for _ in reader.blocks(2**16):
                pass
            info = AudioInfo(**vars(info) | {"frames": reader.frames, "exact": True,
                                             "note": reader.note, "cut_off": reader.cut_off})
    return info


def bit_rate(info: AudioInfo) -> int | None:
    """Return the bit rate of a file, bits per second, from its packets where no header tells it."""
    if info.bit_rate is not None:
        return info.bit_rate
    try:
        with MediaReader(info.path) as media:
            return media.average_bit_rate()
    except (MediaError, OSError):
        return None


def read(
    path: str | Path, start: int = 0, frames: int | None = None, sample_rate: int | None = None
) -> tuple[np.ndarray, int]:
    """Read a file, or a block of it.

    Args:
        path: The file.
        start: First sample of the block, at the file's own rate.
        frames: Samples of the block at the file's own rate; fewer come back at the end of the
            file. None: to the end.
        sample_rate: Resample the block to this rate in Hz; None: keep the file's.

    Returns:
        The samples, float32 `[channels, samples]`, and their rate in Hz.

    Raises:
        AudioError: When the file is no audio, is empty, holds NaN or infinite samples, or `start`
            lies outside it.
    """
    with Reader(path) as reader:
        info = reader.info
        if info.exact and info.frames <= 0:
            raise _empty(info.path)
        if start < 0 or (info.exact and start > info.frames):
            raise AudioError(
                f"{path}: sample {start} is outside of the file, which has {info.frames}"
            )
        size = 2**16 if frames is None else frames
        if info.exact:  # in one go
            size = min(info.frames - start if frames is None else frames, info.frames - start)
        parts, missing = [], frames
        for block in reader.blocks(size, start=start) if size > 0 else ():
            parts.append(block)
            if missing is not None and (missing := missing - block.shape[1]) <= 0:
                break
    audio = np.concatenate(parts, axis=1) if parts else np.zeros((info.channels, 0), np.float32)
    if sample_rate is None or sample_rate == info.sample_rate:
        return audio, info.sample_rate
    return resample(audio, info.sample_rate, sample_rate), sample_rate


def blocks(path: str | Path, frames: int, dtype: str = "float32") -> Iterator[np.ndarray]:
    """Read a file block by block, in memory that does not grow with it: see `Reader.blocks`."""
    with Reader(path) as reader:
        yield from reader.blocks(frames, dtype)


def read_mono(path: str | Path, sample_rate: int) -> np.ndarray:
    """Read a whole file as the mean of its channels, resampled to `sample_rate` in Hz.

    Where the channels cancel each other in their mean, the loudest is taken.

    Returns:
        float32 `[samples]`.

    Raises:
        AudioError: As `read`.
    """
    audio, rate = read(path)
    return resample(to_mono(audio), rate, sample_rate)


def native_name(path: str | Path) -> str | bytes:
    """Return a name as libsndfile takes it: a name that is no UTF-8 goes as its bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return str(path)


class _Part(io.RawIOBase):
    """Some bytes of a file as a file."""

    def __init__(self, path: Path, begin: int, end: int):
        self._file = open(path, "rb")  # noqa: SIM115 - closed with this
        self._begin, self._size, self._at = begin, end - begin, 0

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._begin + self._at)
        data = self._file.read(min(len(buffer), self._size - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


def _frames_of(path: Path, link: tuple[int, int]) -> int:
    with soundfile.SoundFile(_Part(path, *link)) as file:
        return file.frames


def _logged(file: soundfile.SoundFile) -> dict[str, str]:
    """Say what libsndfile found of a length that is wrong: it mends it by itself, and logs it."""
    for line in file.extra_info.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() not in ("SSND", "data", "Data Size", "riff") or "should be" not in rest:
            continue
        with suppress(ValueError):
            promised, there = (int(part.strip(" )")) for part in rest.split("(should be"))
            if 0 < there < promised < 2**31 - 2**16:
                return {"cut_off": f"{there} of {promised} bytes are there"}
            if 0 <= promised < there and name.strip() != "riff":
                return {"note": "its header was never finished; read to its end"}
    return {}


def _bit_rate(path: Path, file: soundfile.SoundFile, header: Header) -> int | None:
    if file.subtype == "VORBIS" and header.bit_rate:
        return header.bit_rate
    if file.subtype not in ("VORBIS", "OPUS") or file.frames <= 0:
        return None
    return round(8 * path.stat().st_size * file.samplerate / file.frames)


def _check_finite(path: Path, audio: np.ndarray) -> None:
    broken = audio.size - int(np.isfinite(audio).sum())
    if broken:
        raise AudioError(
            f"{path}: {broken} of {audio.size} samples are NaN or infinite; render the file again"
        )


def _empty(path: Path) -> AudioError:
    return AudioError(f"{path}: holds no samples (length zero); record or copy it again")


def described(found: Any) -> str:
    """Return in a line what is unusual about a file: what is missing of it, what is noted.

    Args:
        found: Has `cut_off` and `note`, as `AudioInfo`, `Reader` and the result of a file have.

    Returns:
        Empty where nothing is unusual.
    """
    cut = f"cut off: {found.cut_off}" if found.cut_off else ""
    return "; ".join(filter(None, (cut, found.note)))


def _unreadable(path: Path, error: Exception) -> AudioError:
    if not os.path.lexists(path):
        return AudioError(f"{path}: no such file; check the path")
    if path.is_dir():
        return AudioError(f"{path}: is a folder, expected an audio file")
    if not path.exists():
        return AudioError(f"{path}: is a link to no such file; copy the file itself")
    if path.stat().st_size == 0:
        return AudioError(f"{path}: the file is empty (0 bytes); get a whole copy")
    if not os.access(path, os.R_OK):
        return AudioError(f"{path}: not readable; check its permissions")
    reason = getattr(error, "error_string", "") or str(error)
    return AudioError(
        f"{path}: not readable as audio ({reason.strip().rstrip('.')}); see whether a player plays "
        "it, and convert it to WAV or FLAC there"
    )
