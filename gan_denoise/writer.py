"""Audio files written: block by block, whole or not at all, within what each container can hold.

Integer containers are clipped and the clipped samples counted, never wrapped and never rescaled;
float containers and the lossy codecs hold samples above full scale and are left alone.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from gan_denoise.audio import (
    AUDIO_SUFFIXES,
    CONTAINERS,
    AudioError,
    AudioInfo,
    native_name,
    open_audio,
)

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None

_UNCLIPPED = ("FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II",
              "MPEG_LAYER_III")
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
_32_BIT_SIZES = {"WAV": 4, "WAVEX": 4, "AIFF": 2, "AU": 4}  # GiB that the header can count
_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4,
          "FLOAT": 4, "DOUBLE": 8}
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_SYSTEM_ERROR = 2  # libsndfile's code for a failed system call
_PART = re.compile(r"\.[0-9a-f]{16}\.part")


class Writer:
    """A file written block by block, which appears under its name only when it is whole.

    A context manager: on a clean exit the file takes its name, on any error nothing is left.

    Attributes:
        clipped: Samples beyond full scale so far, which an integer container clipped.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        format: str | None = None,
        subtype: str | None = None,
        tags_from: str | Path | None = None,
    ) -> None:
        """Open a temporary file beside `path`; missing folders are made.

        Args:
            path: The file to write.
            sample_rate: In Hz.
            channels: Count of channels.
            format: libsndfile's container name; None: from the suffix.
            subtype: libsndfile's encoding name; None: the usual one of the container.
            tags_from: A file whose text tags (title, artist, ...) are copied.

        Raises:
            AudioError: When the container cannot hold this, or the folder cannot be written.
        """
        self.path = Path(path)
        self.clipped = 0
        self._frames = 0
        self._format, self._subtype = _container(self.path, format, subtype)
        _check_limits(self.path, sample_rate, channels, self._format, self._subtype)
        # Not built on the name of the file, which may already be as long as the system allows.
        self._part = self.path.parent / f".{secrets.token_hex(8)}.part"
        self._channels = channels
        self._handle: int | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = _claim(self._part)
            self._file = soundfile.SoundFile(
                native_name(self._part), "w", sample_rate, channels, self._subtype,
                format=self._format,
            )
            if tags_from is not None:
                self._copy_tags(Path(tags_from))
        except BaseException as error:
            self._discard()
            if isinstance(error, (soundfile.LibsndfileError, OSError)):
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
        if largest > 1.0 and self._subtype not in _UNCLIPPED:
            self.clipped += int((np.abs(block) > 1.0).sum())
            block = np.clip(block, -1.0, 1.0)  # mu-law and ADPCM wrap in libsndfile
        if self._subtype in BITS:
            block = quantise(block, BITS[self._subtype])
        self._frames += block.shape[1]
        _check_length(self.path, self._frames * self._channels, self._format, self._subtype)
        try:
            self._file.write(block.T)
        except (soundfile.LibsndfileError, OSError) as error:
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
            self._file.close()
            if kind is None:
                self._verify()
                os.replace(self._part, self.path)
        except (soundfile.LibsndfileError, OSError) as fault:
            if kind is None:
                raise self._unwritable(fault) from fault
        finally:
            self._discard()

    def _verify(self) -> None:
        """Look at the end of what was written: ALAC reports no error on a full disk."""
        if not self._frames:
            return
        with soundfile.SoundFile(native_name(self._part)) as file:
            whole = file.frames == self._frames
            if whole:
                file.seek(self._frames - 1)
                whole = len(file.read(1, always_2d=True)) == 1
        if not whole:
            raise OSError("the file came out shorter than the audio")

    def _copy_tags(self, source: Path) -> None:
        with open_audio(source) as file:
            tags = file.copy_metadata()
        for name, text in tags.items():
            # The container may have no place for this tag; the audio matters more.
            with contextlib.suppress(soundfile.LibsndfileError):
                setattr(self._file, name, text)

    def _unwritable(self, error: Exception) -> AudioError:
        reason = getattr(error, "strerror", None) or str(error).removesuffix(": ") or "write failed"
        if getattr(error, "code", None) == _SYSTEM_ERROR:
            reason = "the system refused the write"
        free = ""
        if self.path.parent.is_dir():
            free = f" ({shutil.disk_usage(self.path.parent).free / 2**20:.1f} MiB free)"
        return AudioError(
            f"{self.path}: not written: {reason}; is the disk full{free}, or the folder "
            "write-protected? Nothing half-written was left"
        )

    def _discard(self) -> None:
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
        format: libsndfile's container name; None: from the suffix.
        subtype: libsndfile's encoding name; None: the usual one of the container (16 bits).

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


def output_container(info: AudioInfo, wanted: str = "keep") -> tuple[str, str]:
    """Return the container and encoding for the output of a file: its own, or the nearest.

    Asked for WAV or FLAC, integer and float samples keep their width where the container has it;
    FLAC takes 24 bits of what is wider, and what comes from a lossy codec gets 16 bits.

    Args:
        info: Of the input.
        wanted: `keep`, `wav` or `flac`.

    Returns:
        libsndfile's names of both.
    """
    if wanted == "keep":
        return info.format, info.subtype
    subtype = info.subtype if info.subtype in _BYTES else "PCM_16"
    if wanted == "wav":
        return "WAV", "PCM_U8" if subtype == "PCM_S8" else subtype
    narrow = {"PCM_U8": "PCM_S8", "ULAW": "PCM_16", "ALAW": "PCM_16", "PCM_32": "PCM_24",
              "FLOAT": "PCM_24", "DOUBLE": "PCM_24"}
    return "FLAC", narrow.get(subtype, subtype)


def check_container(
    path: str | Path, sample_rate: int, channels: int, format: str, subtype: str, frames: int = 0
) -> None:
    """Refuse, before any work, what the container cannot hold.

    Args:
        path: The file that would be written.
        sample_rate: In Hz.
        channels: Count of channels.
        format: libsndfile's container name.
        subtype: libsndfile's encoding name.
        frames: Samples per channel.

    Raises:
        AudioError: Naming the file, what it cannot hold, and the way out.
    """
    format, subtype = _container(Path(path), format, subtype)
    _check_limits(Path(path), sample_rate, channels, format, subtype)
    _check_length(Path(path), frames * channels, format, subtype)


def _check_length(path: Path, samples: int, format: str, subtype: str) -> None:
    limit = _32_BIT_SIZES.get(format, math.inf) * 2**30 - 2**16
    if samples * _BYTES.get(subtype, 1) > limit:
        raise AudioError(
            f"{path}: longer than a {format} header can count; write .flac, .w64 or .rf64"
        )


def _container(path: Path, format: str | None, subtype: str | None) -> tuple[str, str]:
    if format is None:
        if path.suffix.lower() not in CONTAINERS:
            raise AudioError(
                f"{path}: no audio suffix; name the file one of {' '.join(AUDIO_SUFFIXES)}"
            )
        format, usual = CONTAINERS[path.suffix.lower()]
        subtype = subtype or usual
    format = format.upper()
    if subtype is None:
        usual_ones = [usual for name, usual in CONTAINERS.values() if name == format]
        subtype = usual_ones[0] if usual_ones else soundfile.default_subtype(format)
    subtype = (subtype or "").upper()
    if not soundfile.check_format(format, subtype):
        raise AudioError(f"{path}: {format} cannot hold {subtype}; write .wav or .flac instead")
    return format, subtype


def _check_limits(path: Path, sample_rate: int, channels: int, format: str, subtype: str) -> None:
    """Refuse what the codecs cannot hold, with the way out: libsndfile's reasons are blank, and
    beyond its limits the Vorbis encoder takes the process down."""
    rates: tuple[int, ...] | None = None
    top_rate, top_channels = 2**31 - 1, 1024
    if subtype == "OPUS":
        rates, top_channels = _OPUS_RATES, 255
    elif format == "MP3":
        rates, top_channels = _MP3_RATES, 2
    elif subtype == "VORBIS":
        top_rate, top_channels = 200_000, 255
    elif format == "FLAC":
        top_rate, top_channels = 655_350, 8
    name = subtype if format == "OGG" else format
    if not 1 <= channels <= top_channels:
        hint = "is the array transposed?" if channels > 1024 else "write .wav instead"
        raise AudioError(f"{path}: {name} cannot hold {channels} channels; {hint}")
    if rates is not None and sample_rate not in rates:
        raise AudioError(
            f"{path}: {name} cannot hold {sample_rate} Hz; write .wav or .flac instead, or "
            f"resample to one of {', '.join(map(str, rates))} Hz"
        )
    if not 1 <= sample_rate <= top_rate:
        raise AudioError(f"{path}: {name} cannot hold {sample_rate} Hz; write .wav instead")
