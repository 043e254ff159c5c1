"""Audio files in folders, found by their suffixes; files that look like audio and are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gan_denoise.audio.errors import AudioError
from gan_denoise.core.locations import is_remote, location, reaching, walk_address

# Suffixes that libsndfile or FFmpeg read, in lower case; matched in any case.
AUDIO_SUFFIXES = (
    ".wav", ".wave", ".bwf", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".aiff",
    ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".voc", ".m4a", ".m4b", ".aac",
    ".mp4", ".m4v", ".mov", ".webm", ".mka", ".mkv", ".wma", ".wmv", ".asf", ".amr", ".awb", ".3gp",
    ".3g2", ".ac3", ".eac3", ".dts", ".wv", ".ape", ".tta", ".avi", ".flv", ".mpg", ".mpeg",
    ".ra", ".rm", ".m2ts", ".mts", ".ts", ".8svx", ".iff", ".ircam", ".gsm",
)  # fmt: skip
# Suffixes of recordings that neither reads, and of files that another program has not finished.
_NOT_READ = {".raw", ".pcm", ".dss", ".ds2", ".m4p", ".aa", ".aax", ".shn", ".mid", ".midi",
             ".dsf", ".dff"}  # fmt: skip
_UNFINISHED = {".part", ".partial", ".crdownload", ".download", ".tmp", ".temp"}
TEMPORARY, UNKNOWN = "temporary name", "not read"  # reasons to pass a file over


@dataclass
class Found:
    """The audio under a folder.

    Attributes:
        files: Their paths, sorted; each begins with that of the folder.
        passed_over: Paths of files that look like recordings and were left out, by the reason.
    """

    files: list[Path] = field(default_factory=list)
    passed_over: dict[str, list[Path]] = field(default_factory=dict)


def find_audio(path: str | Path, recursive: bool = True) -> list[Path]:
    """List the audio files of a folder, sorted; arguments and errors are those of `search`."""
    return search(path, recursive).files


def search(path: str | Path, recursive: bool = True) -> Found:
    """Find the audio files of a folder; a path of a file is returned as it is, whatever its name.

    Hidden and temporary files are left out. Folders behind a symbolic link are followed once, and
    not at all where the link leads back into `path`, whose files are listed already.

    Args:
        path: A folder or a file, or the address of one.
        recursive: Descend into sub-folders.

    Returns:
        At least one file.

    Raises:
        AudioError: When `path` is missing or not readable, or no audio is found.
        LocationError: When an address cannot be reached.
    """
    root = location(path)
    with reaching(root):
        if root.is_file():
            return Found([root])
        if not root.exists():
            raise AudioError(f"{root}: no such file or folder; check the path")

    found = Found()
    for path in walk_address(root, recursive) if is_remote(root) else _walk(root, recursive):
        reason = _reason_to_pass_over(path.name) if _is_media(path) else ""
        if reason is None:
            found.files.append(path)
        elif reason:
            found.passed_over.setdefault(reason, []).append(path)
    for paths in found.passed_over.values():
        paths.sort()
    if not found.files:
        hint = "" if recursive else "; sub-folders were not searched"
        passed_over_text = describe_passed_over(found.passed_over)
        raise AudioError(
            f"no audio found under {root} (looked for {' '.join(AUDIO_SUFFIXES)}){hint}"
            + (f"; {passed_over_text}" if passed_over_text else "")
        )
    found.files.sort()
    return found


def _walk(root: Path, recursive: bool) -> Iterator[Path]:
    """Yield the files under a folder; a folder behind links is entered once.

    Raises:
        AudioError: When a folder is not readable.
    """

    def fail(error: OSError) -> None:
        raise AudioError(
            f"{error.filename}: folder not readable ({error.strerror}); check its permissions"
        ) from error

    top = os.path.realpath(root)
    visited = {top}

    def is_entered(path: str) -> bool:
        if not os.path.islink(path):
            return True
        real = os.path.realpath(path)
        if real in visited or real.startswith(top + os.sep):
            return False
        visited.add(real)
        return True

    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        yield from (Path(folder, name) for name in files)
        folders[:] = [name for name in sorted(folders)
                      if recursive and not name.startswith(".") and name != "__MACOSX"
                      and is_entered(os.path.join(folder, name))]


def describe_passed_over(passed_over: dict[str, list[Path]]) -> str:
    """Return in one line how many files were passed over, why, and the names of some.

    Args:
        passed_over: Paths by reason, as in `Found`.

    Returns:
        The line; empty where there are none.
    """
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
    """Return whether a suffix, with its dot, is that of an audio file, in any case."""
    return suffix.lower() in AUDIO_SUFFIXES


def _is_media(path: Path) -> bool:
    """Return whether a `.ts` file is a transport stream and not TypeScript; True for all others."""
    if not path.name.lower().endswith(".ts"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(189)[::188] == b"GG"  # packets of 188 bytes begin with G
    except OSError:
        return True  # the error is reported when it is read


def _reason_to_pass_over(name: str) -> str | None:
    """Return why a file is no input; empty where that needs no report, None where it is one."""
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
