"""Recordings read to their end: the length is what decoding gives, not what a header says.

libsndfile decodes the formats that it knows and that state their length reliably, FFmpeg all
others. A recording is complete; or complete with a wrong header, which gives a note; or cut off:
then the samples that are there are read, and `cut_off` says what is missing.

A recording at an address is fetched first, whole: see `core.fetched_files`.

Arrays are `float32 [channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from gan_denoise.audio.errors import AudioError, no_samples, unreadable
from gan_denoise.audio.ffmpeg import MediaError
from gan_denoise.audio.ffmpeg_reader import FfmpegReader
from gan_denoise.audio.headers import HeaderCheck, check_open_header
from gan_denoise.audio.info import AudioInfo
from gan_denoise.audio.samples import resample, to_mono
from gan_denoise.audio.sndfile import sndfile_path
from gan_denoise.audio.sndfile_reader import SndfileReader
from gan_denoise.core.fetched_files import FetchError, local_copy
from gan_denoise.core.locations import LocationError, location

_SNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff", b"fLaC", b"OggS", b"NIST",
                  b".snd", b"dns.", b"Crea", b"2BIT", b" paf", b"fap ")  # fmt: skip
# FFmpeg's names of codecs -> libsndfile's.
_SUBTYPES = {"pcm_u8": "PCM_U8", "pcm_s16le": "PCM_16", "pcm_s24le": "PCM_24",
             "pcm_s32le": "PCM_32", "pcm_f32le": "FLOAT", "pcm_f64le": "DOUBLE"}
_MPEG_SUBTYPES = {"mp3": "MPEG_LAYER_III", "mp2": "MPEG_LAYER_II"}
_UNFINISHED_BYTES = 2**12  # a file of more than these and of length zero was never finished


class Reader:
    """A recording open for reading, once, from its beginning to its end; a context manager.

    Attributes:
        info: What the header says.
        frames: Samples per channel read so far.
        note: What is unusual about the file although nothing is missing; complete after the end.
        cut_off: What is missing; complete after the end.
    """

    def __init__(self, path: str | Path):
        """Open a file.

        Args:
            path: Its path, or its address.

        Raises:
            AudioError: When it is missing, not readable, or no audio.
        """
        path = location(path)
        if path.suffix.lower() == ".raw":
            raise AudioError(f"{path}: raw samples say neither their rate nor their encoding",
                             "give them a header, for instance with sox or ffmpeg")
        self._file = _fetched(path)
        try:
            self._decoder, info = _open(self._file)
        except (soundfile.LibsndfileError, MediaError, OSError) as error:
            raise unreadable(self._file, error, path) from error
        self.info = info if self._file is path else replace(info, path=path)
        self.frames = 0
        self.note, self.cut_off = self.info.note, self.info.cut_off

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._decoder.close()

    def blocks(self, frames: int, dtype: str = "float32", start: int = 0) -> Iterator[np.ndarray]:
        """Yield the recording block by block, in memory that does not grow with it.

        Args:
            frames: Samples per channel of a block.
            dtype: `float32`, or `float64` for encodings of more than 24 bits.
            start: First sample.

        Yields:
            `[channels, frames]`; the last block may be shorter.

        Raises:
            AudioError: When decoding fails, a block holds NaN or infinite samples, or the file has
                no samples.
        """
        path, decoder = self.info.path, self._decoder
        try:
            for block in decoder.blocks(frames, dtype, start):
                _check_finite(path, block)
                self.frames += block.shape[1]
                yield block
        except (soundfile.LibsndfileError, MediaError, OSError) as error:
            raise unreadable(self._file, error, path) from error
        self.note = self.note or decoder.note
        self.cut_off = self.cut_off or decoder.cut_off
        if not self.frames and not start:
            raise no_samples(path)


def _fetched(path: Path) -> Path:
    """Return the file on this machine that has the content of a path or an address."""
    try:
        return local_copy(path)
    except (LocationError, FetchError) as error:
        raise AudioError(error.reason, error.way_out) from error


def _open(path: Path) -> tuple[SndfileReader | FfmpegReader, AudioInfo]:
    """Open a file by the decoder that reads all of it; return the properties of the file too."""
    with open(path, "rb") as file:
        known = file.read(4).startswith(_SNDFILE_MAGIC)
        header = check_open_header(file)
    decoder, note = _open_decoder(path, header, known)
    try:
        if isinstance(decoder, SndfileReader):
            return decoder, decoder.info()
        return decoder, _ffmpeg_info(path, decoder, header, note)
    except BaseException:
        decoder.close()
        raise


def _open_decoder(
    path: Path, header: HeaderCheck, known: bool
) -> tuple[SndfileReader | FfmpegReader, str]:
    """Open by libsndfile where that is sure to read to the end, else by FFmpeg; return a note.

    Args:
        path: The file.
        header: What is known of its header.
        known: Whether it begins as the containers of libsndfile do.
    """
    if header.raw_samples is not None:
        return SndfileReader(path, header), ""
    sndfile, fault, note = None, None, ""
    if known and header.reliable:
        try:
            sndfile = SndfileReader(path, header)
        except soundfile.LibsndfileError as error:
            fault = error
    try:
        if sndfile is not None:
            unfinished = (sndfile.states_no_length and header.frames is None
                          and path.stat().st_size > _UNFINISHED_BYTES)
            if not unfinished and not sndfile.subtype.startswith("MPEG"):
                return sndfile, ""
            note = "its header was never finished; read to its end" if unfinished else ""
        ffmpeg = FfmpegReader(path, not header.reliable, header.states_length)
    except MediaError as error:
        if sndfile is not None:
            return sndfile, ""
        if fault is None and not known:  # rare containers of libsndfile
            with suppress(soundfile.LibsndfileError):
                return SndfileReader(path, header), ""
        raise fault or error from error
    except BaseException:
        if sndfile is not None:
            sndfile.close()
        raise
    if sndfile is not None:
        sndfile.close()
    return ffmpeg, note


def _ffmpeg_info(path: Path, file: FfmpegReader, header: HeaderCheck, note: str) -> AudioInfo:
    """Return the properties of a file that FFmpeg reads, by libsndfile's names where it has any."""
    container = file.format
    subtype = _MPEG_SUBTYPES.get(file.codec, file.codec.upper())
    if not header.reliable:  # a format of libsndfile, which writes the output too
        with suppress(soundfile.LibsndfileError), soundfile.SoundFile(sndfile_path(path)) as known:
            container = known.format
            subtype = _SUBTYPES.get(file.codec, known.subtype)
    return AudioInfo(
        path, file.sample_rate, file.channels, header.frames or file.frames, container, subtype,
        file.bit_rate, exact=header.frames is not None, note=header.note or note,
        cut_off=header.cut_off,
    )


def _check_finite(path: Path, audio: np.ndarray) -> None:
    """Raise AudioError where samples are NaN or infinite."""
    broken = audio.size - int(np.isfinite(audio).sum())
    if broken:
        raise AudioError(
            f"{path}: {broken} of {audio.size} samples are NaN or infinite", "render the file again"
        )


def probe(path: str | Path, count: bool = False) -> AudioInfo:
    """Read a file's header.

    Args:
        path: The file.
        count: Decode the file where its header does not give the length reliably.

    Returns:
        The properties of the file; `exact` is set where `count` is. A well-formed file of length
        zero is no error here, but one in `read`.

    Raises:
        AudioError: When the file is missing, not readable, or no audio.
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
    """Return the bit rate of a file in bits per second, from its packets where no header has it.

    Args:
        info: Properties of the file.

    Returns:
        The bit rate; None where FFmpeg cannot read the file.
    """
    if info.bit_rate is not None:
        return info.bit_rate
    try:
        with FfmpegReader(_fetched(info.path)) as file:
            return file.average_bit_rate()
    except (MediaError, OSError):
        return None


def read(
    path: str | Path, start: int = 0, frames: int | None = None, sample_rate: int | None = None
) -> tuple[np.ndarray, int]:
    """Read a file, or a part of it.

    Args:
        path: The file.
        start: First sample, at the file's own rate.
        frames: Samples per channel at the file's own rate; fewer come back at the end of the file.
            None: to the end.
        sample_rate: Rate in Hz to resample to; None: keep the file's.

    Returns:
        The samples, float32 `[channels, samples]`, and their rate in Hz.

    Raises:
        AudioError: When the file is no audio, is empty, holds NaN or infinite samples, or `start`
            lies outside it.
    """
    with Reader(path) as reader:
        info = reader.info
        if info.exact and info.frames <= 0:
            raise no_samples(info.path)
        if start < 0 or (info.exact and start > info.frames):
            raise AudioError(
                f"{path}: sample {start} is outside of the file, which has {info.frames}"
            )
        size = 2**16 if frames is None else frames
        if info.exact:  # all in one block
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
    """Read a file block by block; arguments, shapes and errors are those of `Reader.blocks`."""
    with Reader(path) as reader:
        yield from reader.blocks(frames, dtype)


def read_mono(path: str | Path, sample_rate: int) -> np.ndarray:
    """Read a whole file as the mean of its channels, resampled.

    Where the channels cancel each other in their mean, the loudest channel is taken.

    Args:
        path: The file.
        sample_rate: Rate of the result in Hz.

    Returns:
        float32 `[samples]`.

    Raises:
        AudioError: When the file is no audio, is empty, or holds NaN or infinite samples.
    """
    audio, rate = read(path)
    return resample(to_mono(audio), rate, sample_rate)
