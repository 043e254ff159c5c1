"""Metadata of a recording that a file made of it lacks.

libsndfile copies ten text fields (title, artist, ...). Whatever else a file holds is not copied by
it, and only named in a report; `metadata_scan` finds it. For files that FFmpeg reads or writes the
tags of both are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import soundfile

from gan_denoise.audio import ffmpeg
from gan_denoise.audio.metadata_scan import has_scan, printable, scan_metadata
from gan_denoise.audio.sndfile import sndfile_path

# FFmpeg's name of a tag -> libsndfile's.
_FFMPEG_TAGS = {
    "title": "title", "copyright": "copyright", "artist": "artist", "comment": "comment",
    "date": "date", "album": "album", "track": "tracknumber", "genre": "genre",
}  # fmt: skip


def text_fields(path: str | Path) -> dict[str, str]:
    """Return the text tags of a file by libsndfile's names; empty where it has none."""
    try:
        if has_scan(path):
            return _sndfile_fields(path)
    except OSError:
        return {}
    found = ffmpeg.tags(Path(path))
    return {name: found[key] for key, name in _FFMPEG_TAGS.items() if key in found}


def lost_metadata(source: str | Path, target: str | Path | None = None) -> list[str]:
    """Return names of the metadata of a recording that a file made of it lacks.

    Args:
        source: The recording. Of a damaged one, what stands before the damage counts.
        target: The file that was written from it; None for one of the same container as libsndfile
            would write it.

    Returns:
        Short names, sorted; empty when nothing is lost.
    """
    if not _is_scanned(source) or (target is not None and not _is_scanned(target)):
        return _lost_by_ffmpeg(Path(source), target)
    fields = _sndfile_fields(source)
    lost = set(_scan(source, fields))
    if target is not None:
        kept = _sndfile_fields(target)
        lost -= {name for name in _scan(target, kept) if not name.startswith("tag ")}
        lost.update(_lost_fields(fields, kept))
    for name, text in fields.items():
        if "\ufffd" in text and f"tag {name}" not in lost:  # its bytes were no UTF-8
            lost.add(f"tag {name} (altered)")
    return sorted(lost)


def _is_scanned(path: str | Path) -> bool:
    """Return whether libsndfile reads the container; True where the file cannot be opened."""
    try:
        return has_scan(path)
    except OSError:
        return True


def _lost_by_ffmpeg(source: Path, target: str | Path | None) -> list[str]:
    """Return the names of the tags that FFmpeg finds in the source and not in the target."""
    if target is None:
        return []
    found, kept = ffmpeg.tags(source), ffmpeg.tags(Path(target))
    lost = []
    for name, text in found.items():
        shown = name if name in ("picture", "chapters") else f"tag {printable(name)}"
        if name not in kept:
            lost.append(shown)
        elif text.strip().casefold() != kept[name].strip().casefold():
            lost.append(f"{shown} (altered)")
    return sorted(lost)


def _scan(path: str | Path, fields: dict[str, str]) -> list[str]:
    """Return what `scan_metadata` finds in a file; nothing where it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return list(scan_metadata(file, fields))
    except OSError:
        return []


def _lost_fields(fields: dict[str, str], kept: dict[str, str]) -> Iterator[str]:
    """Yield the names of the text fields that the target lacks or has with another text."""
    for name, text in fields.items():
        text, copy = text.strip(), kept.get(name, "").strip()
        if name == "software":
            text = text.split(" (libsndfile")[0]  # libsndfile adds its own name
            if not copy.startswith(text):
                yield "tag software"
        elif text and not copy:
            yield f"tag {name}"
        elif text and text.casefold() != copy.casefold():
            yield f"tag {name} (altered)"


def _sndfile_fields(path: str | Path) -> dict[str, str]:
    """Return the text fields that libsndfile reads; empty where it cannot read the file."""
    try:
        with soundfile.SoundFile(sndfile_path(path)) as file:
            return file.copy_metadata()
    except (soundfile.LibsndfileError, OSError):
        return {}
