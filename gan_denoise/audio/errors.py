"""The error of audio files that cannot be read or written, and its reasons in words."""

from __future__ import annotations

import os
from pathlib import Path

from gan_denoise.core.errors import GanDenoiseError


class AudioError(GanDenoiseError):
    """A file cannot be read or written; the reason begins with the file."""


def unreadable(path: Path, error: Exception, name: Path | None = None) -> AudioError:
    """Return the error for a file that could not be opened or decoded.

    Args:
        path: The file.
        error: The decoder's or the system's error; used where the file itself shows no reason.
        name: What the error calls the file; None: its path.
    """
    name = name or path
    if not os.path.lexists(path):
        return AudioError(f"{name}: no such file", "check the path")
    if path.is_dir():
        return AudioError(f"{name}: is a folder, expected an audio file")
    if not path.exists():
        return AudioError(f"{name}: is a link to no such file", "copy the file itself")
    if path.stat().st_size == 0:
        return AudioError(f"{name}: the file is empty (0 bytes)", "get a whole copy")
    if not os.access(path, os.R_OK):
        return AudioError(f"{name}: not readable", "check its permissions")
    reason = getattr(error, "error_string", "") or str(error)
    return AudioError(
        f"{name}: not readable as audio ({reason.strip().rstrip('.')})",
        "see whether a player plays it, and convert it to WAV or FLAC there",
    )


def no_samples(path: Path) -> AudioError:
    """Return the error for a well-formed file of length zero."""
    return AudioError(f"{path}: holds no samples (length zero)", "record or copy it again")
