"""Audio files: find them, read any block, resample; formats, channels, levels.

Arrays are `float32 [channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

# Suffix -> container and its usual subtype. `.opus` is unknown to libsndfile by name.
CONTAINERS = {
    ".wav": ("WAV", "PCM_16"), ".wave": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"), ".oga": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"), ".aiff": ("AIFF", "PCM_16"), ".aif": ("AIFF", "PCM_16"),
    ".aifc": ("AIFF", "PCM_16"), ".au": ("AU", "PCM_16"), ".snd": ("AU", "PCM_16"),
    ".caf": ("CAF", "PCM_16"), ".w64": ("W64", "PCM_16"), ".rf64": ("RF64", "PCM_16"),
    ".sph": ("NIST", "PCM_16"),
}  # fmt: skip
AUDIO_SUFFIXES = tuple(CONTAINERS)  # lower case; matched case-insensitively


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


def open_audio(path: str | Path) -> soundfile.SoundFile:
    """Open a file for reading, whatever bytes its name is made of.

    Raises:
        AudioError: For samples without a header.
        soundfile.LibsndfileError, OSError: When it cannot be opened.
    """
    if Path(path).suffix.lower() == ".raw":
        raise AudioError(f"{path}: raw samples say neither their rate nor their encoding; give "
                         "them a header, for instance with sox or ffmpeg")
    return soundfile.SoundFile(native_name(path))


def native_name(path: str | Path) -> str | bytes:
    """Return a name as libsndfile takes it: a name that is no UTF-8 goes as its bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return str(path)


def probe(path: str | Path) -> AudioInfo:
    """Read a file's header.

    Raises:
        AudioError: When the file is missing, not readable, or no audio. A well-formed file of zero
            length is no error here, but one in `read`.
    """
    try:
        with open_audio(path) as file:
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
        with open_audio(path) as file:
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
        raise _cut_off(path, len(audio), expected)
    audio = np.ascontiguousarray(audio.T)  # [channels, samples]
    _check_finite(path, audio)
    if sample_rate is None or sample_rate == info.sample_rate:
        return audio, info.sample_rate
    return resample(audio, info.sample_rate, sample_rate), sample_rate


def blocks(path: str | Path, frames: int, dtype: str = "float32") -> Iterator[np.ndarray]:
    """Read a file block by block, in memory that does not grow with it.

    Args:
        path: The file.
        frames: Samples of a block.
        dtype: `float32`, or `float64` for encodings of more than 24 bits.

    Yields:
        `[channels, samples]`, `frames` samples but for the last.

    Raises:
        AudioError: As `read`, when the block in question is reached.
    """
    path = Path(path)
    done = 0
    try:
        with open_audio(path) as file:
            expected = file.frames
            if expected <= 0:
                raise AudioError(f"{path}: holds no samples (length zero); remove the file")
            while done < expected:
                block = file.read(min(frames, expected - done), dtype=dtype, always_2d=True)
                if not len(block):
                    raise _cut_off(path, done, expected)
                _check_finite(path, block)
                done += len(block)
                yield np.ascontiguousarray(block.T)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error


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


def peak(audio: np.ndarray) -> float:
    """Return the largest magnitude; zero of no samples."""
    return max(float(np.max(audio, initial=0.0)), -float(np.min(audio, initial=0.0)))


def peak_dbfs(audio: np.ndarray) -> float:
    """Return the largest magnitude in dB below full scale; minus infinity for silence."""
    largest = peak(audio)
    return 20.0 * math.log10(largest) if largest > 0.0 else -math.inf


def _is_audio_name(name: str) -> bool:
    stem, suffix = os.path.splitext(name.lower())
    temporary = name.startswith((".", "~")) or stem.endswith((".tmp", ".part"))
    return suffix in AUDIO_SUFFIXES and not temporary


def _info(path: Path, file: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(path, file.samplerate, file.channels, file.frames, file.format, file.subtype)


def _check_finite(path: Path, audio: np.ndarray) -> None:
    broken = audio.size - int(np.isfinite(audio).sum())
    if broken:
        raise AudioError(
            f"{path}: {broken} of {audio.size} samples are NaN or infinite; render the file again "
            "or remove it"
        )


def _cut_off(path: Path, found: int, expected: int) -> AudioError:
    return AudioError(
        f"{path}: cut off, {found} of {expected} samples could be decoded; get a whole copy or "
        "remove the file"
    )


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
