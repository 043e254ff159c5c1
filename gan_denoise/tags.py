"""What a recording carries besides its audio, and libsndfile does not write into the new file.

libsndfile copies ten text fields (title, artist, ...). Whatever else a file holds is looked for
here, in the bytes, and only to be named in a report: a malformed file ends the search, not the run.
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

from gan_denoise.audio import open_audio

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
_ID3 = {"TIT2": "title", "TPE1": "artist", "COMM": "comment", "TYER": "date", "TDRC": "date",
        "TALB": "album", "TRCK": "tracknumber", "TCON": "genre", "TCOP": "copyright",
        "TT2": "title", "TP1": "artist", "COM": "comment", "TYE": "date", "TAL": "album",
        "TRK": "tracknumber", "TCO": "genre", "TCR": "copyright"}  # fmt: skip
_ENCODERS = {"ENCODER", "ENCODER_OPTIONS", "TSSE", "TSS", "TLEN", "TLE", "encoding application",
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
_PICTURES = {"METADATA_BLOCK_PICTURE", "COVERART", "COVERARTMIME", "APIC", "PIC"}
_CHAPTERS = re.compile(r"CHAP|CTOC|CHAPTER\d+(NAME|URL)?")
_ENCODINGS = {1: "utf-16", 2: "utf-16-be", 3: "utf-8"}  # of ID3 texts; else Latin-1


def lost_metadata(source: str | Path, target: str | Path | None = None) -> list[str]:
    """Name what a file carries and a rewrite of it through libsndfile does not keep.

    Args:
        source: The recording. A damaged one gives what stands before the damage.
        target: The file that was written from it, to find also the text fields that its container
            left out or altered; None: one of the same container, not written yet.

    Returns:
        Short names, sorted; empty when nothing is lost.
    """
    format, fields = _fields(source)
    lost = set()
    try:
        with open(source, "rb") as file:
            # One by one: what was found before the end of a cut file is kept.
            for name in _scan(file, fields):
                lost.add(name)
    except (EOFError, OSError):
        pass
    if target is not None:
        lost.update(_not_taken(format, fields, _fields(target)[1]))
    elif format == "MP3" and fields.get("copyright"):
        lost.add("tag copyright")  # libsndfile reads it there, and never writes it
    for name, text in fields.items():
        if "\ufffd" in text and f"tag {name}" not in lost:  # its bytes were no UTF-8
            lost.add(f"tag {name} (altered)")
    return sorted(lost)


def _not_taken(format: str, fields: dict[str, str], kept: dict[str, str]) -> Iterator[str]:
    """Name the fields of the source that its copy has not, or has otherwise."""
    for name, text in fields.items():
        text, copy = text.strip(), kept.get(name, "").strip()
        if name == "software":
            # libsndfile adds its own name. That of an MP3 is the encoder, untrue of the copy.
            text = text.split(" (libsndfile")[0]
            if format != "MP3" and not copy.startswith(text):
                yield "tag software"
        elif text and not copy:
            yield f"tag {name}"
        elif text and text.casefold() != copy.casefold():  # MP3 spells the usual genres its own way
            yield f"tag {name} (altered)"


def _fields(path: str | Path) -> tuple[str, dict[str, str]]:
    try:
        with open_audio(path) as file:
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
    head = file.read(10)
    start = 0
    if len(head) == 10 and head.startswith(b"ID3"):
        start = 10 + _syncsafe(head[6:]) + (10 if head[5] & 0x10 else 0)
    file.seek(start)
    magic = file.read(4)
    scan = _SCANS.get(magic)
    if scan is not None:
        if start:
            yield "ID3 tag"
        yield from scan(file, magic, end, fields)
    elif start:
        yield from _tags(_id3(file), _ID3, fields)


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


# ---- ID3v2: MP3 ----


def _id3(file: BinaryIO) -> Iterator[str]:
    """Give the frames by their id, those of the user's own choice by what they are called."""
    file.seek(0)
    version, flags, size = struct.unpack(">3xBxB4s", _take(file, 10))
    data = file.read(min(_syncsafe(size), _MOST_BYTES))
    if flags & 0x80 and version < 4:
        data = data.replace(b"\xff\x00", b"\xff")
    tag = io.BytesIO(data)
    if flags & 0x40 and version == 3:
        tag.seek(4 + struct.unpack(">I", _take(tag, 4))[0])
    elif flags & 0x40 and version == 4:
        tag.seek(_syncsafe(_take(tag, 4)))
    width = 3 if version == 2 else 4
    while re.fullmatch(rb"[A-Z0-9]+", name := tag.read(width)):
        raw = _take(tag, width)
        size = _syncsafe(raw) if version == 4 else int.from_bytes(raw, "big")
        form = _take(tag, 2)[1] if version > 2 else 0
        body = tag.read(size)
        if version == 4 and form & 1:
            body = body[4:]  # its length, once more
        key = name.decode()
        texts = _texts(body)
        if key in ("TXXX", "TXX"):
            yield texts[0] or key
        elif any(texts) or key[0] != "T":
            yield key
            # Several texts in one frame: libsndfile reads the first.
            yield from (key for text in texts[1:] if text and key[0] == "T")


def _texts(body: bytes) -> list[str]:
    text = body[1:].decode(_ENCODINGS.get(body[0], "latin-1") if body else "latin-1", "replace")
    return [part.strip("\ufeff") for part in text.split("\0")]


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


def _syncsafe(data: bytes) -> int:
    """Read ID3's integers, of seven bits to the byte."""
    return sum((byte & 127) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:60]).strip()
