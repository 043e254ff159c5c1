"""What a recording carries besides its audio, and what of it a file made of it does not.

libsndfile copies ten text fields (title, artist, ...). Whatever else such a file holds is looked
for here, in the bytes, and only to be named: a malformed file ends the search, not the run. Of
what FFmpeg reads or writes, FFmpeg tells the tags.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import soundfile

from gan_denoise.audio import ffmpeg
from gan_denoise.audio.sndfile import sndfile_path

_MOST_BYTES = 2**24  # of one block of tags, pictures included, held in memory

# The tags that libsndfile 1.2.2 reads into its fields; each was tried.
_NAMES = ("title", "copyright", "software", "artist", "comment", "date", "album", "license",
          "tracknumber", "genre")  # fmt: skip
_VORBIS = {name.upper(): name for name in _NAMES}
_OPUS = {key: name for key, name in _VORBIS.items() if name != "software"}  # there it is ENCODER
_CAF = {"comments": "comment"} | {name: name for name in _NAMES}
_INFO = {"INAM": "title", "ICOP": "copyright", "ISFT": "software", "IART": "artist",
         "ICMT": "comment", "ICRD": "date", "IPRD": "album", "ITRK": "tracknumber",
         "IGNR": "genre"}  # fmt: skip
_AIFF = {"NAME": "title", "(c) ": "copyright", "AUTH": "artist", "ANNO": "comment"}
_FFMPEG = {"title": "title", "copyright": "copyright", "artist": "artist", "comment": "comment",
           "date": "date", "album": "album", "track": "tracknumber", "genre": "genre"}
_ENCODERS = {"ENCODER", "ENCODER_OPTIONS", "ISFT", "encoder", "encoding application",
             "source encoder"}  # fmt: skip  # of the old file: untrue of the new one

# Chunks by their lower-case id. The first describe the audio itself, or nothing.
_AUDIO = {"fmt ", "data", "fact", "peak", "junk", "pad ", "fllr", "ds64", "levl", "comm", "ssnd",
          "fver", "chan", "desc", "pakt", "kuki", "free", "ovvw"}  # fmt: skip
_CHUNKS = {"cue ": "cue points", "mark": "cue points", "plst": "playlist", "regn": "regions",
           "bext": "bext (broadcast extension)", "cart": "cart (broadcast)", "ixml": "iXML",
           "axml": "aXML", "_pmx": "XMP", "smpl": "smpl (sampler loops)", "id3 ": "ID3 tag",
           "inst": "inst (instrument)", "acid": "acid (loop)", "midi": "MIDI data",
           "comt": "comments (COMT)"}  # fmt: skip
_NIST = {"channel_count", "sample_rate", "sample_n_bytes", "sample_sig_bits", "sample_coding",
         "sample_byte_format", "sample_count", "sample_min", "sample_max", "sample_checksum",
         "end_head"}  # fmt: skip
_PICTURES = {"METADATA_BLOCK_PICTURE", "COVERART", "COVERARTMIME"}
_CHAPTERS = re.compile(r"CHAPTER\d+(NAME|URL)?")


def text_fields(path: str | Path) -> dict[str, str]:
    """Return the text tags of a file by libsndfile's names; empty where it has none."""
    try:
        with open(path, "rb") as file:
            if file.read(4) in _SCANS:
                return _fields(path)[1]
    except OSError:
        return {}
    found = ffmpeg.tags(Path(path))
    return {name: found[key] for key, name in _FFMPEG.items() if key in found}


def lost_metadata(source: str | Path, target: str | Path | None = None) -> list[str]:
    """Name what a file carries and a file made of it does not.

    Args:
        source: The recording. A damaged one gives what stands before the damage.
        target: The file that was written from it; None: one of the same container that libsndfile
            would write.

    Returns:
        Short names, sorted; empty when nothing is lost.
    """
    if not _is_scanned(source) or (target is not None and not _is_scanned(target)):
        return _lost_by_ffmpeg(Path(source), target)
    _, fields = _fields(source)
    lost = set(_found(source, fields))
    if target is not None:
        kept = _fields(target)[1]
        lost -= {name for name in _found(target, kept) if not name.startswith("tag ")}
        lost.update(_not_taken(fields, kept))
    for name, text in fields.items():
        if "\ufffd" in text and f"tag {name}" not in lost:  # its bytes were no UTF-8
            lost.add(f"tag {name} (altered)")
    return sorted(lost)


def _is_scanned(path: str | Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) in _SCANS
    except OSError:
        return True


def _lost_by_ffmpeg(source: Path, target: str | Path | None) -> list[str]:
    """Compare what FFmpeg finds in both files."""
    if target is None:
        return []
    found, kept = ffmpeg.tags(source), ffmpeg.tags(Path(target))
    lost = []
    for name, text in found.items():
        shown = name if name in ("picture", "chapters") else f"tag {_shown(name)}"
        if name not in kept:
            lost.append(shown)
        elif text.strip().casefold() != kept[name].strip().casefold():
            lost.append(f"{shown} (altered)")
    return sorted(lost)


def _found(path: str | Path, fields: dict[str, str]) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            # One by one: what was found before the end of a cut file is kept.
            yield from _scan(file, fields)
    except (EOFError, OSError):
        pass


def _not_taken(fields: dict[str, str], kept: dict[str, str]) -> Iterator[str]:
    """Name the fields of the source that its copy has not, or has otherwise."""
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


def _fields(path: str | Path) -> tuple[str, dict[str, str]]:
    try:
        with soundfile.SoundFile(sndfile_path(path)) as file:
            return file.format, file.copy_metadata()
    except (soundfile.LibsndfileError, OSError):
        return "", {}


def _scan(file: BinaryIO, fields: dict[str, str]) -> Iterator[str]:
    end = file.seek(0, os.SEEK_END)
    for footer in (end - 32, end - 160):  # before an ID3v1 tag, which libsndfile knows
        if footer >= 0:
            file.seek(footer)
            if file.read(8) == b"APETAGEX":
                yield "APE tag"
    file.seek(0)
    magic = file.read(4)
    yield from _SCANS[magic](file, magic, end, fields)


def _tags(keys: Iterable[str], known: dict[str, str], fields: dict[str, str]) -> Iterator[str]:
    """Name the tags that are in no field: not known to libsndfile, or not read, or one of many."""
    seen = set()
    for key in keys:
        if key in _ENCODERS:
            continue
        if key in _PICTURES:
            yield "picture"
        elif _CHAPTERS.fullmatch(key):
            yield "chapters"
        elif known.get(key) not in fields:
            yield f"tag {_shown(key)}"
        elif key in seen:
            yield f"tag {_shown(key)} (more than one)"
        seen.add(key)


# ---- Chunks: RIFF and its relatives, AIFF, CAF ----


def _chunks(
    file: BinaryIO, end: int, layout: str, pad: int = 1, inclusive: bool = False
) -> Iterator[tuple[str, int]]:
    """Go from chunk to chunk: the id and where the chunk ends, the file standing at its content."""
    header = struct.calcsize(layout)
    wide = 0
    while file.tell() + header <= end:
        raw, size = struct.unpack(layout, _take(file, header))
        start = file.tell()
        if inclusive:
            size -= header
        if raw == b"ds64" and end - start >= 16:
            (wide,) = struct.unpack("<8xQ", _take(file, 16))
            file.seek(start)
        if raw == b"data" and size == 0xFFFFFFFF:
            size = wide
        name = raw.decode("latin-1")
        if not (name.isascii() and name.isprintable() and 0 <= size <= end - start):
            return
        if raw == b"data" and size == 0:
            return  # a recorder was cut off before it wrote the size: what follows is audio
        yield name, start + size
        file.seek(start + size + -size % pad)


def _chunk(name: str) -> Iterator[str]:
    if name.lower() not in _AUDIO:
        yield _CHUNKS.get(name.lower(), f"chunk {name.strip()}")


def _riff(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    inner = ">4sI" if magic == b"RIFX" else "<4sI"
    if magic == b"riff":
        file.seek(36, os.SEEK_CUR)  # W64 has GUIDs, of which the first four bytes tell enough
        chunks = _chunks(file, end, "<4s12xq", 8, inclusive=True)
    else:
        file.seek(8, os.SEEK_CUR)
        chunks = _chunks(file, end, inner, 2)
    for name, stop in chunks:
        if name.lower() != "list":
            yield from _chunk(name)
        elif (kind := file.read(4)) == b"INFO":
            items = _chunks(file, stop, inner, 2)
            filled = (key for key, item_end in items if item_end - file.tell() > 1)
            yield from _tags(filled, _INFO, fields)
        else:
            yield "cue point labels" if kind == b"adtl" else "LIST chunk"


def _aiff(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    if file.read(8)[4:] not in (b"AIFF", b"AIFC"):
        return
    texts = []
    for name, _ in _chunks(file, end, ">4sI", 2):
        if name in _AIFF:
            texts.append(name)
        elif name != "APPL":
            yield from _chunk(name)
        elif (maker := file.read(4)) != b"m3ga":  # libsndfile's own, where it has the software
            yield f"application data ({_shown(maker.decode('latin-1'))})"
    yield from _tags(texts, _AIFF, fields)


def _caf(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    file.seek(4, os.SEEK_CUR)
    for name, stop in _chunks(file, end, ">4sq"):
        if name != "info":
            yield from _chunk(name)
        else:
            texts = _take(file, min(stop - file.tell(), _MOST_BYTES))[4:].split(b"\0")
            pairs = zip(texts[::2], texts[1::2], strict=False)
            yield from _tags((_utf8(key) for key, text in pairs if text), _CAF, fields)


# ---- Vorbis comments: FLAC, Ogg ----


def _flac(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    last = False
    while not last:
        kind, high, low = struct.unpack(">BBH", _take(file, 4))
        last, kind, stop = kind >= 128, kind % 128, file.tell() + 65536 * high + low
        if kind == 2:
            yield f"application data ({_shown(_take(file, 4).decode('latin-1'))})"
        elif kind == 4:
            yield from _tags(_comments(file), _VORBIS, fields)
        elif kind in (5, 6):
            yield "cue sheet" if kind == 5 else "picture"
        file.seek(stop)


def _ogg(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    """Put together the second packet of the first stream of audio: the comments."""
    file.seek(-4, os.SEEK_CUR)
    stream, packet = None, b""
    known: dict[str, str] = {}
    while file.tell() < _MOST_BYTES:
        capture, flags, serial, laced = struct.unpack("<4sxB8xI8xB", _take(file, 27))
        if capture != b"OggS":
            return
        lacing = _take(file, laced)
        page = _take(file, sum(lacing))
        if stream is None and page.startswith((b"\x01vorbis", b"OpusHead")):
            stream, known = serial, _OPUS if page.startswith(b"Opus") else _VORBIS
        elif serial == stream:
            whole = next((at for at, size in enumerate(lacing) if size < 255), None)
            packet += page if whole is None else page[: sum(lacing[: whole + 1])]
            if whole is not None:
                break
        elif stream is None and not flags & 2:
            return  # the streams have all begun, and none is of a kind known here
    comments = io.BytesIO(packet)
    comments.seek(7 if packet.startswith(b"\x03vorbis") else 8)
    yield from _tags(_comments(comments), known, fields)


def _comments(file: BinaryIO) -> Iterator[str]:
    file.seek(struct.unpack("<I", _take(file, 4))[0], os.SEEK_CUR)  # the encoder
    (count,) = struct.unpack("<I", _take(file, 4))
    for _ in range(count):
        (size,) = struct.unpack("<I", _take(file, 4))
        start = file.tell()
        key, _, text = _take(file, min(size, 128)).partition(b"=")
        if text:
            yield _utf8(key).upper()
        file.seek(start + size)


# ---- NIST, and what all need ----


def _nist(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    for line in file.read(1020).decode("latin-1").partition("\n")[2].splitlines()[1:]:
        words = line.split()
        if words[:1] == ["end_head"]:
            return
        if len(words) > 2 and words[0] not in _NIST:
            yield f"tag {_shown(words[0])}"


_SCANS: dict[bytes, Callable[..., Iterator[str]]] = {
    b"RIFF": _riff, b"RIFX": _riff, b"RF64": _riff, b"riff": _riff, b"FORM": _aiff, b"caff": _caf,
    b"fLaC": _flac, b"OggS": _ogg, b"NIST": _nist,
}  # fmt: skip


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:60]).strip()
