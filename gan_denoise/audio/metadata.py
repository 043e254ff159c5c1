"""Metadata of a recording that a file made of it lacks.

libsndfile copies ten text fields (title, artist, ...). Whatever else a file holds is not copied by
it, and only named in a report; `metadata_scan` finds it. For files that FFmpeg reads or writes the
tags of both are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import soundfile

from gan_denoise.audio import ffmpeg
from gan_denoise.audio.metadata_scan import has_scan, printable, scan_metadata
from gan_denoise.core.termination import held_back

# FFmpeg's name of a tag -> libsndfile's.
_FFMPEG_TAGS = {
    "title": "title", "copyright": "copyright", "artist": "artist", "comment": "comment",
    "date": "date", "album": "album", "track": "tracknumber", "genre": "genre",
}  # fmt: skip


def text_fields(path: str | Path) -> dict[str, str]:
    """Return the text tags of a file by libsndfile's names; empty where it has none."""
    try:
        with open(path, "rb") as file:
            if has_scan(file):
                return _sndfile_fields(file)
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
    of_source, of_target = _scan(source), _scan(target) if target is not None else None
    if of_source is None or (target is not None and of_target is None):
        return _lost_by_ffmpeg(Path(source), target)
    fields, found = of_source
    lost = set(found)
    if of_target is not None:
        kept, copied = of_target
        lost -= {name for name in copied if not name.startswith("tag ")}
        lost.update(_lost_fields(fields, kept))
    for name, text in fields.items():
        if "\ufffd" in text and f"tag {name}" not in lost:  # its bytes were no UTF-8
            lost.add(f"tag {name} (altered)")
    return sorted(lost)


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


def _scan(path: str | Path) -> tuple[dict[str, str], list[str]] | None:
    """Return libsndfile's text fields of a file, and what `scan_metadata` finds; it is opened once.

    Returns:
        None where FFmpeg reads the container; nothing of a file that cannot be opened.
    """
    fields: dict[str, str] = {}
    try:
        with open(path, "rb") as file:
            if not has_scan(file):
                return None
            fields = _sndfile_fields(file)
            return fields, list(scan_metadata(file, fields))
    except OSError:
        return fields, []


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


def _sndfile_fields(file: BinaryIO) -> dict[str, str]:
    """Return the text fields that libsndfile reads; empty where it cannot read the file."""
    file.seek(0)
    try:
        with held_back(), soundfile.SoundFile(file) as sound:
            return sound.copy_metadata()
    except (soundfile.LibsndfileError, OSError):
        return {}
