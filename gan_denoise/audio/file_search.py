"""Audio files in folders, by their names; what looks like a recording and is none is told."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from gan_denoise.audio.errors import AudioError

# What libsndfile reads and writes, and what FFmpeg does; lower case, matched in any case.
AUDIO_SUFFIXES = (
    ".wav", ".wave", ".bwf", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".aiff",
    ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".voc", ".m4a", ".m4b", ".aac",
    ".mp4", ".m4v", ".mov", ".webm", ".mka", ".mkv", ".wma", ".wmv", ".asf", ".amr", ".awb", ".3gp",
    ".3g2", ".ac3", ".eac3", ".dts", ".wv", ".ape", ".tta", ".avi", ".flv", ".mpg", ".mpeg",
    ".ra", ".rm", ".m2ts", ".mts", ".ts", ".8svx", ".iff", ".ircam", ".gsm",
)  # fmt: skip
_NOT_READ = {".raw", ".pcm", ".dss", ".ds2", ".m4p", ".aa", ".aax", ".shn", ".mid", ".midi",
             ".dsf", ".dff"}  # fmt: skip
_UNFINISHED = {".part", ".partial", ".crdownload", ".download", ".tmp", ".temp"}
TEMPORARY, UNKNOWN = "temporary name", "not read"


@dataclass
class Found:
    """The audio under a folder.

    Attributes:
        files: Sorted; each path begins with that of the folder.
        passed_over: What looks like a recording and was left out, by the reason for it.
    """

    files: list[Path] = field(default_factory=list)
    passed_over: dict[str, list[Path]] = field(default_factory=dict)


def find_audio(path: str | Path, recursive: bool = True) -> list[Path]:
    """List the audio files of a folder, sorted: `search` without what it passed over."""
    return search(path, recursive).files


def search(path: str | Path, recursive: bool = True) -> Found:
    """Find the audio files of a folder; a file is returned as it is, whatever its name.

    Hidden and temporary files are left out. Folders behind a symbolic link are followed once, and
    not at all where the link leads back into `path`, whose files are listed already.

    Args:
        path: A folder or a file.
        recursive: Descend into sub-folders.

    Returns:
        At least one file.

    Raises:
        AudioError: When `path` is missing or not readable, or no audio is found.
    """
    root = Path(path)
    if root.is_file():
        return Found([root])
    if not root.exists():
        raise AudioError(f"{root}: no such file or folder; check the path")

    def fail(error: OSError) -> None:
        raise AudioError(
            f"{error.filename}: folder not readable ({error.strerror}); check its permissions"
        ) from error

    found = Found()
    top = os.path.realpath(root)
    visited = {top}
    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        for name in files:
            reason = _left_out(name) if _is_media(folder, name) else ""
            if reason is None:
                found.files.append(Path(folder, name))
            elif reason:
                found.passed_over.setdefault(reason, []).append(Path(folder, name))
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
    for paths in found.passed_over.values():
        paths.sort()
    if not found.files:
        hint = "" if recursive else "; sub-folders were not searched"
        told = describe_passed_over(found.passed_over)
        raise AudioError(
            f"no audio found under {root} (looked for {' '.join(AUDIO_SUFFIXES)}){hint}"
            + (f"; {told}" if told else "")
        )
    found.files.sort()
    return found


def describe_passed_over(passed_over: dict[str, list[Path]]) -> str:
    """Return in one line what was passed over, by reason, some of it by name; empty for nothing."""
    parts = []
    for reason, paths in passed_over.items():
        names = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        parts.append(f"{len(paths)} {reason if len(paths) == 1 else _plural(reason)} ({names})")
    count = sum(map(len, passed_over.values()))
    if not count:
        return ""
    return f"{count} file{'' if count == 1 else 's'} passed over: {'; '.join(parts)}"


def _plural(reason: str) -> str:
    return reason + "s" if reason == TEMPORARY else reason


def is_audio_suffix(suffix: str) -> bool:
    """Whether a suffix, with its dot, is that of an audio file."""
    return suffix.lower() in AUDIO_SUFFIXES


def _is_media(folder: str, name: str) -> bool:
    """Tell transport streams from programs in TypeScript; all else is what it is named."""
    if not name.lower().endswith(".ts"):
        return True
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read(189)[::188] == b"GG"  # its packets begin so
    except OSError:
        return True  # told when it is read


def _left_out(name: str) -> str | None:
    """Return why a file is no input: a reason to tell, none to tell (empty), or None: it is one."""
    stem, suffix = os.path.splitext(name.lower())
    if name.startswith("."):
        return ""
    if suffix in _UNFINISHED:
        return TEMPORARY if os.path.splitext(stem)[1] in AUDIO_SUFFIXES else ""
    if suffix in _NOT_READ:
        return UNKNOWN
    if suffix not in AUDIO_SUFFIXES:
        return ""
    temporary = name.startswith("~") or os.path.splitext(stem)[1] in _UNFINISHED
    return TEMPORARY if temporary else None
