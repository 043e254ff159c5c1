"""Audio files: find them, read any block, resample, write atomically; formats, channels, levels.

Arrays are `float32 [channels, samples]` with full scale at +-1. Integer containers are clipped and
the clipped samples counted, never wrapped and never rescaled; float containers and the lossy codecs
hold samples above full scale and are left alone.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

# Suffix -> container and subtype written by default. `.opus` is unknown to libsndfile by name.
_DEFAULTS = {
    ".wav": ("WAV", "PCM_16"), ".wave": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"), ".oga": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"), ".aiff": ("AIFF", "PCM_16"), ".aif": ("AIFF", "PCM_16"),
    ".aifc": ("AIFF", "PCM_16"), ".au": ("AU", "PCM_16"), ".snd": ("AU", "PCM_16"),
    ".caf": ("CAF", "PCM_16"), ".w64": ("W64", "PCM_16"), ".rf64": ("RF64", "PCM_16"),
    ".sph": ("NIST", "PCM_16"),
}  # fmt: skip
AUDIO_SUFFIXES = tuple(_DEFAULTS)  # lower case; matched case-insensitively

_UNCLIPPED = ("FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II",
              "MPEG_LAYER_III")
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
_32_BIT_SIZES = {"WAV": 4, "WAVEX": 4, "AIFF": 2, "AU": 4}  # GiB that the header can count
_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4,
          "FLOAT": 4, "DOUBLE": 8}
_SYSTEM_ERROR = 2  # libsndfile's code for a failed system call


class AudioError(ValueError):
    """A file that cannot be read or written: one line with the file, the reason, the way out."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        path: The file.
        sample_rate: In Hz.
        channels: Count of channels.
        frames: Samples per channel.
        format: libsndfile's name of the container, for instance `WAV`.
        subtype: libsndfile's name of the encoding, for instance `PCM_16`.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def find_audio(path: str | Path, recursive: bool = True) -> list[Path]:
    """List the audio files of a folder, sorted; a file is returned as it is, whatever its name.

    Hidden and temporary files are left out. Folders behind a symbolic link are followed once, and
    not at all where the link leads back into `path`, whose files are listed already.

    Args:
        path: A folder or a file.
        recursive: Descend into sub-folders.

    Returns:
        Paths that begin with `path`, in the order of their names; never empty.

    Raises:
        AudioError: When `path` is missing or not readable, or no audio is found.
    """
    root = Path(path)
    if root.is_file():
        return [root]
    if not root.exists():
        raise AudioError(f"{root}: no such file or folder; check the path")

    def fail(error: OSError) -> None:
        raise AudioError(
            f"{error.filename}: folder not readable ({error.strerror}); check its permissions"
        ) from error

    found: list[Path] = []
    top = os.path.realpath(root)
    visited = {top}
    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        found += [Path(folder, name) for name in files if _is_audio_name(name)]
        kept = []
        for name in sorted(folders) if recursive else []:
            link = os.path.join(folder, name)
            if name.startswith(".") or name == "__MACOSX":
                continue
            if os.path.islink(link):
                real = os.path.realpath(link)
                if real in visited or real == top or real.startswith(top + os.sep):
                    continue
                visited.add(real)
            kept.append(name)
        folders[:] = kept
    if not found:
        hint = "" if recursive else "; sub-folders were not searched"
        raise AudioError(
            f"no audio found under {root} (looked for {' '.join(AUDIO_SUFFIXES)}){hint}"
        )
    return sorted(found)


def probe(path: str | Path) -> AudioInfo:
    """Read a file's header.

    Raises:
        AudioError: When the file is missing, not readable, or no audio. A well-formed file of zero
            length is no error here, but one in `read`.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            return _info(Path(path), file)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(Path(path), error) from error


def read(
    path: str | Path, start: int = 0, frames: int | None = None, sample_rate: int | None = None
) -> tuple[np.ndarray, int]:
    """Read a file, or a block of it by seeking.

    Args:
        path: The file.
        start: First sample of the block, at the file's own rate.
        frames: Samples of the block at the file's own rate; fewer come back at the end of the
            file. None: to the end.
        sample_rate: Resample the block to this rate in Hz; None: keep the file's.

    Returns:
        The samples, float32 `[channels, samples]`, and their rate in Hz.

    Raises:
        AudioError: When the file is no audio, is empty or cut off, holds NaN or infinite samples,
            or `start` lies outside it.
    """
    path = Path(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            info = _info(path, file)
            if info.frames <= 0:
                raise AudioError(f"{path}: holds no samples (length zero); remove the file")
            if not 0 <= start <= info.frames:
                raise AudioError(
                    f"{path}: sample {start} is outside of the file, which has {info.frames}"
                )
            expected = info.frames - start
            if frames is not None:
                expected = min(expected, max(frames, 0))
            if start:
                file.seek(start)
            audio = file.read(expected, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    if len(audio) < expected:
        raise AudioError(
            f"{path}: cut off, {len(audio)} of {expected} samples could be decoded; get a whole "
            "copy or remove the file"
        )
    audio = np.ascontiguousarray(audio.T)  # [channels, samples]
    broken = audio.size - int(np.isfinite(audio).sum())
    if broken:
        raise AudioError(
            f"{path}: {broken} of {audio.size} samples are NaN or infinite; render the file again "
            "or remove it"
        )
    if sample_rate is None or sample_rate == info.sample_rate:
        return audio, info.sample_rate
    return resample(audio, info.sample_rate, sample_rate), sample_rate


def read_mono(path: str | Path, sample_rate: int) -> np.ndarray:
    """Read a whole file as the mean of its channels, resampled to `sample_rate` in Hz.

    Returns:
        float32 `[samples]`.

    Raises:
        AudioError: As `read`.
    """
    audio, rate = read(path)
    mono = audio[0] if len(audio) == 1 else audio.mean(axis=0, dtype=np.float32)
    return resample(mono, rate, sample_rate)


def resample(
    audio: np.ndarray, rate_in: int, rate_out: int, length: int | None = None
) -> np.ndarray:
    """Resample along the last axis (soxr HQ, no delay).

    Args:
        audio: `[..., samples]`.
        rate_in: Rate of `audio` in Hz.
        rate_out: Wanted rate in Hz.
        length: Exact samples to return: for the way back, those of the original, because
            44.1 -> 16 -> 44.1 kHz is off by one otherwise. None: samples * rate_out / rate_in,
            rounded.

    Returns:
        float32 `[..., length]`, cut or padded with zeros at the end.
    """
    audio = np.asarray(audio, dtype=np.float32)
    samples = audio.shape[-1]
    if length is None:
        length = round(samples * rate_out / rate_in)
    if rate_in != rate_out and audio.size:
        import soxr

        flat = audio.reshape(-1, samples)
        if len(flat) == 1:  # soxr's one-channel path is the faster one
            flat = soxr.resample(flat[0], rate_in, rate_out, quality="HQ")[None]
        else:
            flat = soxr.resample(flat.T, rate_in, rate_out, quality="HQ").T
        audio = flat.reshape(*audio.shape[:-1], -1)
    missing = length - audio.shape[-1]
    if missing > 0:
        audio = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(audio[..., :length])


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
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = soundfile.SoundFile(
                str(self._part), "w", sample_rate, channels, self._subtype, format=self._format
            )
            if tags_from is not None:
                self._copy_tags(Path(tags_from))
        except (soundfile.LibsndfileError, OSError) as error:
            self._discard()
            raise self._unwritable(error) from error

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
        broken = block.size - int(np.isfinite(block).sum())
        if broken:
            raise AudioError(f"{self.path}: {broken} samples to write are NaN or infinite")
        if self._subtype not in _UNCLIPPED:
            beyond = int((np.abs(block) > 1.0).sum())
            if beyond:
                self.clipped += beyond
                block = np.clip(block, -1.0, 1.0)  # mu-law and ADPCM wrap in libsndfile
        self._frames += block.shape[1]
        limit = _32_BIT_SIZES.get(self._format, math.inf) * 2**30 - 2**16
        if self._frames * self._channels * _BYTES.get(self._subtype, 1) > limit:
            raise AudioError(
                f"{self.path}: longer than a {self._format} header can count; write .flac, .w64 "
                "or .rf64"
            )
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
        with soundfile.SoundFile(str(self._part)) as file:
            whole = file.frames == self._frames
            if whole:
                file.seek(self._frames - 1)
                whole = len(file.read(1, always_2d=True)) == 1
        if not whole:
            raise OSError("the file came out shorter than the audio")

    def _copy_tags(self, source: Path) -> None:
        with soundfile.SoundFile(str(source)) as file:
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


def write_like(path: str | Path, audio: np.ndarray, info: AudioInfo) -> int:
    """Write with the container, encoding, rate and text tags of another file.

    Args:
        path: The file to write.
        audio: Float `[channels, samples]` or `[samples]` at the rate of `info`.
        info: Of the other file, which must still be there for its tags.

    Returns:
        The count of clipped samples, as `write`.

    Raises:
        AudioError: As `write`.
    """
    audio = np.atleast_2d(np.asarray(audio))
    with Writer(
        path, info.sample_rate, len(audio), info.format, info.subtype, tags_from=info.path
    ) as writer:
        writer.write(audio)
    return writer.clipped


def peak_dbfs(audio: np.ndarray) -> float:
    """Return the largest magnitude in dB below full scale; minus infinity for silence."""
    peak = float(np.max(np.abs(audio), initial=0.0))
    return 20.0 * math.log10(peak) if peak > 0.0 else -math.inf


def _is_audio_name(name: str) -> bool:
    stem, suffix = os.path.splitext(name.lower())
    temporary = name.startswith((".", "~")) or stem.endswith((".tmp", ".part"))
    return suffix in AUDIO_SUFFIXES and not temporary


def _info(path: Path, file: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(path, file.samplerate, file.channels, file.frames, file.format, file.subtype)


def _unreadable(path: Path, error: Exception) -> AudioError:
    if not path.exists():
        return AudioError(f"{path}: no such file; check the path")
    if path.is_dir():
        return AudioError(f"{path}: is a folder, expected an audio file")
    if path.stat().st_size == 0:
        return AudioError(f"{path}: the file is empty (0 bytes); remove it or get a whole copy")
    if not os.access(path, os.R_OK):
        return AudioError(f"{path}: not readable; check its permissions")
    reason = getattr(error, "error_string", "") or str(error)
    return AudioError(
        f"{path}: not readable as audio ({reason.strip().rstrip('.')}); convert it to WAV or FLAC, "
        "or remove it"
    )


def _container(path: Path, format: str | None, subtype: str | None) -> tuple[str, str]:
    if format is None:
        if path.suffix.lower() not in _DEFAULTS:
            raise AudioError(
                f"{path}: no audio suffix; name the file one of {' '.join(AUDIO_SUFFIXES)}"
            )
        format, usual = _DEFAULTS[path.suffix.lower()]
        subtype = subtype or usual
    format = format.upper()
    if subtype is None:
        usual_ones = [usual for name, usual in _DEFAULTS.values() if name == format]
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
