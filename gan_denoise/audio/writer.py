"""Audio files written: block by block, whole or not at all, within what each container can hold.

Integer encodings clip samples beyond full scale, and the clipped samples are counted; nothing wraps
or is rescaled. Float and lossy encodings hold samples beyond full scale, which stay as they are; an
MP3 up to twice full scale.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from gan_denoise.audio import wav_chunks
from gan_denoise.audio.containers import (
    BITS,
    by_libsndfile,
    ceiling,
    check_length,
    check_limits,
    codec_of,
    resolve,
)
from gan_denoise.audio.errors import AudioError
from gan_denoise.audio.ffmpeg import MediaError
from gan_denoise.audio.ffmpeg_writer import FfmpegWriter
from gan_denoise.audio.partial_files import PartialFile
from gan_denoise.audio.samples import peak, quantise
from gan_denoise.audio.sndfile_writer import SndfileWriter

if TYPE_CHECKING:
    import soxr

_SYSTEM_ERROR = 2  # libsndfile's code for a failed system call
_FULL_BYTES = 2**26  # a disk with less free space is named as the reason
_ENCODER_ERRORS = (soundfile.LibsndfileError, MediaError, OSError)


class Writer:
    """A file written block by block, which appears under its name only when it is whole.

    A context manager: on a clean exit the file takes its name, on any error nothing is left.

    Attributes:
        path: The file.
        clipped: Number of samples beyond what the encoding holds, clipped so far.
        lost: Names of the source's streams that the container does not take.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        format: str | None = None,
        subtype: str | None = None,
        source: str | Path | None = None,
        *,
        bit_rate: int | None = None,
        input_rate: int | None = None,
        others: bool = False,
        preserve_times: bool = False,
    ) -> None:
        """Open a temporary file beside `path`; missing folders are made.

        Args:
            path: The file to write.
            sample_rate: Sample rate of the file in Hz.
            channels: Number of channels.
            format: Container, see `containers`; None: that of the suffix.
            subtype: Encoding, see `containers`; None: the usual one of the container.
            source: The recording that this is made of: its tags, its file mode, and further data
                that the container has a place for are copied.
            bit_rate: Bits per second of a lossy encoding; None: the encoder's default.
            input_rate: Sample rate in Hz of the blocks, where they are to be resampled.
            others: Copy the video and the further streams of the source as well.
            preserve_times: Give the file the source's time of modification.

        Raises:
            AudioError: When the container cannot hold this, or the folder cannot be written.
        """
        self.path = Path(path)
        self.clipped = 0
        self._frames, self._channels = 0, channels
        self._format, self._subtype = resolve(self.path, format, subtype)
        check_limits(self.path, sample_rate, channels, self._format, self._subtype)
        self._source = Path(source) if source is not None else None
        self._ceiling = ceiling(self._format, self._subtype)
        self._ceiling = ceiling(self._format, self._subtype)
        self._preserve_times = preserve_times
        self._resamplers = _resamplers(input_rate, sample_rate, channels)
        self._part = PartialFile(self.path)
        self._encoder: SndfileWriter | FfmpegWriter | None = None
        try:
            self._part.create()
            self._encoder = self._open_encoder(sample_rate, bit_rate, others)
        except BaseException as error:
            self._discard()
            if isinstance(error, _ENCODER_ERRORS):
                raise _unwritable(self.path, error) from error
            raise
        self.lost = self._encoder.lost

    def _open_encoder(
        self, sample_rate: int, bit_rate: int | None, others: bool
    ) -> SndfileWriter | FfmpegWriter:
        if by_libsndfile(self._format, self._subtype):
            return SndfileWriter(self._part.path, self._format, self._subtype, sample_rate,
                                 self._channels, bit_rate, self._source)
        return FfmpegWriter(self._part.path, self._format, codec_of(self._subtype), sample_rate,
                            self._channels, bit_rate, self._source, others)

    def write(self, audio: np.ndarray) -> None:
        """Append a block.

        Args:
            audio: float32 or float64 `[channels, samples]` or, for one channel, `[samples]`, full
                scale at +-1.

        Raises:
            AudioError: For NaN or infinite samples, a full disk, or more than the header can count.
            ValueError: For another number of channels, or integer samples.
        """
        block = np.atleast_2d(np.asarray(audio))
        if block.ndim != 2 or len(block) != self._channels:
            raise ValueError(
                f"{self.path}: expected [{self._channels}, samples], not {np.shape(audio)}"
            )
        if block.dtype not in (np.float32, np.float64):
            raise ValueError(f"{self.path}: expected float samples, not {block.dtype}")
        largest = float(np.max(np.abs(block), initial=0.0))
        if not math.isfinite(largest):
            broken = block.size - int(np.isfinite(block).sum())
            raise AudioError(f"{self.path}: {broken} samples to write are NaN or infinite")
        if self._resamplers:
            block = self._resampled(block)
            largest = peak(block)
        self._encode(block, largest)

    def _encode(self, block: np.ndarray, largest: float) -> None:
        """Clip, round and encode `[channels, samples]` whose largest magnitude is `largest`."""
        if largest > self._ceiling:
            self.clipped += int((np.abs(block) > self._ceiling).sum())
            # libsndfile wraps mu-law and ADPCM.
            block = np.clip(block, -self._ceiling, self._ceiling)
        if self._subtype in BITS:
            block = quantise(block, BITS[self._subtype])
        self._frames += block.shape[1]
        check_length(self.path, self._frames * self._channels, self._format, self._subtype)
        try:
            self._encoder.write(block)
        except _ENCODER_ERRORS as error:
            raise _unwritable(self.path, error) from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except _ENCODER_ERRORS as fault:
            raise _unwritable(self.path, fault) from fault
        finally:
            self._discard()

    def _finish(self) -> None:
        """Write what is left, copy what belongs to the source, and give the file its name."""
        if self._resamplers:
            rest = self._resampled(np.zeros((self._channels, 0), np.float32), last=True)
            self._encode(rest, peak(rest))
        self._encoder.close()
        if self._source is not None and self._source.exists():
            if self._format in ("WAV", "WAVEX"):
                wav_chunks.copy_chunks(self._source, self._part.path)
            with contextlib.suppress(OSError):  # of another's file, on another's disk
                shutil.copymode(self._source, self._part.path)
            if self._preserve_times:
                status = self._source.stat()
                os.utime(self._part.path, ns=(status.st_atime_ns, status.st_mtime_ns))
        self._part.publish()

    def _resampled(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Resample the next `[channels, samples]`; a block may give fewer or no samples."""
        return np.stack([
            resampler.resample_chunk(np.ascontiguousarray(channel, np.float32), last=last)
            for resampler, channel in zip(self._resamplers, block, strict=True)
        ])

    def _discard(self) -> None:
        if self._encoder is not None:
            self._encoder.abort()
        self._part.discard()


def _resamplers(
    input_rate: int | None, sample_rate: int, channels: int
) -> list[soxr.ResampleStream]:
    """Return a resampler for each channel; none where the rates are equal."""
    if input_rate in (None, sample_rate):
        return []
    import soxr

    return [soxr.ResampleStream(input_rate, sample_rate, 1, dtype="float32", quality="HQ")
            for _ in range(channels)]


def _unwritable(path: Path, error: Exception) -> AudioError:
    """Return the error for a file that could not be written, with the likely reason."""
    reason = getattr(error, "strerror", None) or str(error).removesuffix(": ") or "write failed"
    if getattr(error, "code", None) == _SYSTEM_ERROR:
        reason = "the system refused the write"
    hint = ""
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(path.parent).free
        if free < _FULL_BYTES or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            hint = f" ({free / 2**20:.1f} MiB free there); make room, or give another folder"
        elif not os.access(path.parent, os.W_OK):
            hint = "; the folder is write-protected: give another one"
    return AudioError(f"{path}: not written: {reason}{hint}. Nothing half-written was left")


def write(
    path: str | Path,
    audio: np.ndarray,
    sample_rate: int,
    format: str | None = None,
    subtype: str | None = None,
) -> int:
    """Write a file atomically: it appears whole, or not at all.

    Args:
        path: The file; missing folders are made, an existing file is replaced.
        audio: float32 or float64 `[channels, samples]` or `[samples]`, full scale at +-1.
        sample_rate: Sample rate in Hz.
        format: Container, see `containers`; None: that of the suffix.
        subtype: Encoding, see `containers`; None: the usual one of the container (16 bits).

    Returns:
        The number of samples beyond what the encoding holds, which were clipped.

    Raises:
        AudioError: When the container cannot hold this rate, channel count or encoding, when a
            sample is NaN or infinite, or when the disk is full.
    """
    audio = np.atleast_2d(np.asarray(audio))
    with Writer(path, sample_rate, len(audio), format, subtype) as writer:
        writer.write(audio)
    return writer.clipped
