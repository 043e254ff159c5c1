"""Audio files written: block by block, whole or not at all, within what each container can hold.

Integer containers are clipped and the clipped samples counted, never wrapped and never rescaled;
float containers and the lossy codecs hold samples above full scale and are left alone.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import soundfile

from gan_denoise.audio import wav_chunks
from gan_denoise.audio.containers import (
    BITS,
    UNCLIPPED,
    by_libsndfile,
    check_length,
    check_limits,
    codec_of,
    compression_level,
    resolve,
)
from gan_denoise.audio.ffmpeg import MediaError
from gan_denoise.audio.media_writer import MediaWriter
from gan_denoise.audio.metadata import text_fields
from gan_denoise.audio.reader import AudioError, native_name
from gan_denoise.audio.samples import peak

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None

_SYSTEM_ERROR = 2  # libsndfile's code for a failed system call
_PART = re.compile(r"\.[0-9a-f]{16}\.part")


class Writer:
    """A file written block by block, which appears under its name only when it is whole.

    A context manager: on a clean exit the file takes its name, on any error nothing is left.

    Attributes:
        clipped: Samples beyond full scale so far, which an integer container clipped.
        lost: Streams of the source that the container does not take.
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
            sample_rate: In Hz.
            channels: Count of channels.
            format: Name of the container; None: from the suffix.
            subtype: Name of the encoding; None: the usual one of the container.
            source: The file that this is made of: its text tags, its file mode, and what the
                container has place for beside are copied.
            bit_rate: Of a lossy encoding, bits per second; None: the encoder's default.
            input_rate: Rate in Hz of what will be written, where it is another: it is resampled.
            others: Copy also the video and the further streams of the source.
            preserve_times: Give the file the source's time of modification.

        Raises:
            AudioError: When the container cannot hold this, or the folder cannot be written.
        """
        self.path = Path(path)
        self.clipped = 0
        self.lost: list[str] = []
        self._frames = 0
        self._format, self._subtype = resolve(self.path, format, subtype)
        check_limits(self.path, sample_rate, channels, self._format, self._subtype)
        # Not built on the name of the file, which may already be as long as the system allows.
        self._part = self.path.parent / f".{secrets.token_hex(8)}.part"
        self._channels = channels
        self._source = Path(source) if source is not None else None
        self._preserve_times = preserve_times
        self._resamplers: list[Any] = []
        if input_rate not in (None, sample_rate):
            import soxr

            self._resamplers = [
                soxr.ResampleStream(input_rate, sample_rate, 1, dtype="float32", quality="HQ")
                for _ in range(channels)
            ]
        self._handle: int | None = None
        self._file: soundfile.SoundFile | None = None
        self._media: MediaWriter | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = _claim(self._part)
            if by_libsndfile(self._format, self._subtype):
                self._file = soundfile.SoundFile(
                    native_name(self._part), "w", sample_rate, channels, self._subtype,
                    format=self._format, compression_level=compression_level(
                        self._subtype, sample_rate, channels, bit_rate),
                )
                self._copy_tags()
            else:
                self._media = MediaWriter(
                    self._part, self._format, codec_of(self._subtype), sample_rate, channels,
                    bit_rate, self._source, others,
                )
                self.lost = self._media.lost
        except BaseException as error:
            self._discard()
            if isinstance(error, (soundfile.LibsndfileError, MediaError, OSError)):
                raise self._unwritable(error) from error
            raise

    def write(self, audio: np.ndarray) -> None:
        """Append a block, `[channels, samples]` or, for one channel, `[samples]`.

        Raises:
            AudioError: For NaN or infinite samples, a full disk, or more than the header can count.
            ValueError: For another count of channels, or integer samples.
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
        self._put(block, largest)

    def _put(self, block: np.ndarray, largest: float) -> None:
        if largest > 1.0 and self._subtype not in UNCLIPPED:
            self.clipped += int((np.abs(block) > 1.0).sum())
            block = np.clip(block, -1.0, 1.0)  # mu-law and ADPCM wrap in libsndfile
        if self._subtype in BITS:
            block = quantise(block, BITS[self._subtype])
        self._frames += block.shape[1]
        check_length(self.path, self._frames * self._channels, self._format, self._subtype)
        try:
            if self._file is not None:
                self._file.write(block.T)
            else:
                self._media.write(block)
        except (soundfile.LibsndfileError, MediaError, OSError) as error:
            raise self._unwritable(error) from error

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
        except (soundfile.LibsndfileError, MediaError, OSError) as fault:
            raise self._unwritable(fault) from fault
        finally:
            self._discard()

    def _finish(self) -> None:
        if self._resamplers:
            rest = self._resampled(np.zeros((self._channels, 0), np.float32), last=True)
            self._put(rest, peak(rest))
        if self._file is not None:
            self._file.close()
        else:
            self._media.close()
        self._verify()
        if self._source is not None and self._source.exists():
            if self._format in ("WAV", "WAVEX"):
                wav_chunks.copy_chunks(self._source, self._part)
            with contextlib.suppress(OSError):  # of another's file, on another's disk
                shutil.copymode(self._source, self._part)
            if self._preserve_times:
                status = self._source.stat()
                os.utime(self._part, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.replace(self._part, self.path)

    def _resampled(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        return np.stack([
            resampler.resample_chunk(np.ascontiguousarray(channel, np.float32), last=last)
            for resampler, channel in zip(self._resamplers, block, strict=True)
        ])

    def _verify(self) -> None:
        """Look at the end of what was written: ALAC reports no error on a full disk."""
        if not self._frames or self._media is not None:
            return
        with soundfile.SoundFile(native_name(self._part)) as file:
            whole = file.frames >= self._frames  # block codecs fill up their last block
            if whole:
                with contextlib.suppress(soundfile.LibsndfileError):  # GSM and G.721 do not seek
                    file.seek(self._frames - 1)
                    whole = len(file.read(1, always_2d=True)) == 1
        if not whole:
            raise OSError(f"{file.frames} of {self._frames} samples are in the file")

    def _copy_tags(self) -> None:
        for name, text in text_fields(self._source).items() if self._source is not None else ():
            # The container may have no place for this tag; the audio matters more.
            with contextlib.suppress(soundfile.LibsndfileError):
                setattr(self._file, name, text)

    def _unwritable(self, error: Exception) -> AudioError:
        reason = getattr(error, "strerror", None) or str(error).removesuffix(": ") or "write failed"
        if getattr(error, "code", None) == _SYSTEM_ERROR:
            reason = "the system refused the write"
        hint = ""
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self.path.parent).free
            if free < 2**26 or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                hint = f" ({free / 2**20:.1f} MiB free there); make room, or give another folder"
            elif not os.access(self.path.parent, os.W_OK):
                hint = "; the folder is write-protected: give another one"
        return AudioError(f"{self.path}: not written: {reason}{hint}. Nothing half-written was "
                          "left")

    def _discard(self) -> None:
        with contextlib.suppress(soundfile.LibsndfileError, OSError):
            if self._file is not None:
                self._file.close()
        if self._media is not None:
            self._media.abort()
        self._part.unlink(missing_ok=True)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def quantise(audio: np.ndarray, bits: int) -> np.ndarray:
    """Round samples to the nearest of `bits` bits, clipped.

    libsndfile cuts bits off for some containers, which moves everything down by half a step.

    Args:
        audio: Float, full scale is 1.
        bits: 8 to 32.

    Returns:
        int16 for up to 16 bits, else int32, of the same shape; the bits are the upper ones.
    """
    steps = 2.0 ** (bits - 1)
    exact = audio if bits <= 24 else audio.astype(np.float64)
    rounded = np.rint(exact * exact.dtype.type(steps))
    width = 16 if bits <= 16 else 32
    rounded = np.clip(rounded, -steps, steps - 1, out=rounded).astype(f"int{width}")
    return rounded << (width - bits) if width > bits else rounded


def lock(handle: int, wait: bool = True) -> bool:
    """Lock an open file against other processes until it is closed, or this process is dead.

    Returns:
        Whether it is locked now: False where another process holds it, or nothing can be locked.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def remove_parts(folder: Path, older_than: float = 0.0) -> None:
    """Remove the temporary files that killed processes left in a folder; those in use stay.

    Args:
        folder: Looked at alone, without its sub-folders.
        older_than: Seconds since the last write.
    """
    try:
        parts = [entry for entry in os.scandir(folder) if _PART.fullmatch(entry.name)]
    except OSError:
        return
    for part in parts:
        with contextlib.suppress(OSError):  # gone already, or not ours to remove
            if time.time() - part.stat().st_mtime < older_than:
                continue
            if fcntl is None:
                os.unlink(part)
                continue
            handle = os.open(part, os.O_RDWR)
            try:
                if lock(handle, wait=False):
                    os.unlink(part)
            finally:
                os.close(handle)


def _claim(part: Path) -> int | None:
    """Create a temporary file and lock it while it is written: `remove_parts` passes it by."""
    while fcntl is not None:
        handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
        lock(handle)
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)  # removed between its creation and its lock
    return None


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
        audio: Float `[channels, samples]` or `[samples]`, full scale at +-1.
        sample_rate: In Hz.
        format: Name of the container; None: from the suffix.
        subtype: Name of the encoding; None: the usual one of the container (16 bits).

    Returns:
        The count of samples beyond full scale that an integer encoding clipped.

    Raises:
        AudioError: When the container cannot hold this rate, channel count or encoding, when a
            sample is NaN or infinite, or when the disk is full.
    """
    audio = np.atleast_2d(np.asarray(audio))
    with Writer(path, sample_rate, len(audio), format, subtype) as writer:
        writer.write(audio)
    return writer.clipped
