"""Metadata that libsndfile does not read, found in the bytes of a file: chunks, tags, pictures.

There is a function for each container that libsndfile reads, but none for those left to FFmpeg.
Only names are returned, never content.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from gan_denoise.audio.headers import read_exactly

_MOST_BYTES = 2**24  # of one block of tags, pictures included, that is held in memory

# Tags that libsndfile 1.2.2 reads, by container: name in the file -> text field of libsndfile.
# Each was tried.
_FIELDS = ("title", "copyright", "software", "artist", "comment", "date", "album", "license",
           "tracknumber", "genre")  # fmt: skip
VORBIS_TAGS = {name.upper(): name for name in _FIELDS}
# Opus names the software ENCODER, which libsndfile does not read.
OPUS_TAGS = {key: name for key, name in VORBIS_TAGS.items() if name != "software"}
CAF_TAGS = {"comments": "comment"} | {name: name for name in _FIELDS}
INFO_TAGS = {"INAM": "title", "ICOP": "copyright", "ISFT": "software", "IART": "artist",
             "ICMT": "comment", "ICRD": "date", "IPRD": "album", "ITRK": "tracknumber",
             "IGNR": "genre"}  # fmt: skip
AIFF_TAGS = {"NAME": "title", "(c) ": "copyright", "AUTH": "artist", "ANNO": "comment"}
# Tags that name the program that encoded the file, which is untrue of another file.
_ENCODER_TAGS = {"ENCODER", "ENCODER_OPTIONS", "ISFT", "encoder", "encoding application",
                 "source encoder"}  # fmt: skip

# Chunks by their id in lower case: those that describe the samples or are padding, and names of
# others.
_AUDIO_CHUNKS = {"fmt ", "data", "fact", "peak", "junk", "pad ", "fllr", "ds64", "levl", "comm",
                 "ssnd", "fver", "chan", "desc", "pakt", "kuki", "free", "ovvw"}  # fmt: skip
_OTHER_CHUNKS = {"cue ": "cue points", "mark": "cue points", "plst": "playlist", "regn": "regions",
                 "bext": "bext (broadcast extension)", "cart": "cart (broadcast)", "ixml": "iXML",
                 "axml": "aXML", "_pmx": "XMP", "smpl": "smpl (sampler loops)", "id3 ": "ID3 tag",
                 "inst": "inst (instrument)", "acid": "acid (loop)", "midi": "MIDI data",
                 "comt": "comments (COMT)"}  # fmt: skip
# Fields of a NIST SPHERE header that describe the samples.
_NIST_FIELDS = {"channel_count", "sample_rate", "sample_n_bytes", "sample_sig_bits",
                "sample_coding", "sample_byte_format", "sample_count", "sample_min", "sample_max",
                "sample_checksum", "end_head"}  # fmt: skip
_PICTURES = {"METADATA_BLOCK_PICTURE", "COVERART", "COVERARTMIME"}
_CHAPTERS = re.compile(r"CHAPTER\d+(NAME|URL)?")


def has_scan(file: BinaryIO) -> bool:
    """Return whether `scan_metadata` knows the container of a file, open at its beginning."""
    return file.read(4) in _SCANS


def scan_metadata(file: BinaryIO, fields: dict[str, str]) -> Iterator[str]:
    """Find the metadata of a file that is in none of libsndfile's text fields.

    Args:
        file: The file, open for reading. A damaged one gives what stands before the damage.
        fields: The text fields that libsndfile reads of it.

    Yields:
        Short names that can be printed, for instance `cue points`, `tag MOOD` or `picture`; some
        more than once. Nothing where the container is not known.
    """
    try:
        end = file.seek(0, os.SEEK_END)
        for footer in (end - 32, end - 160):  # before an ID3v1 tag, which libsndfile knows
            if footer >= 0:
                file.seek(footer)
                if file.read(8) == b"APETAGEX":
                    yield "APE tag"
        file.seek(0)
        magic = file.read(4)
        if magic in _SCANS:
            yield from _SCANS[magic](file, magic, end, fields)
    except (EOFError, OSError):
        return


def _unread_tags(
    keys: Iterable[str], known: dict[str, str], fields: dict[str, str]
) -> Iterator[str]:
    """Name the tags that are in no text field, or whose name the file has more than once.

    Args:
        keys: Names of the tags in the file.
        known: Those that libsndfile can read, and the names of their fields.
        fields: The text fields that libsndfile read.
    """
    seen = set()
    for key in keys:
        if key in _ENCODER_TAGS:
            continue
        if key in _PICTURES:
            yield "picture"
        elif _CHAPTERS.fullmatch(key):
            yield "chapters"
        elif known.get(key) not in fields:
            yield f"tag {printable(key)}"
        elif key in seen:
            yield f"tag {printable(key)} (more than one)"
        seen.add(key)


# ---- Chunks: RIFF and its relatives, AIFF, CAF ----


def _chunks(
    file: BinaryIO, end: int, layout: str, pad: int = 1, inclusive: bool = False
) -> Iterator[tuple[str, int]]:
    """Go from chunk to chunk; the file is at the content of each.

    Args:
        file: The file, at the first chunk.
        end: Offset of the byte after the last chunk.
        layout: `struct` format of a chunk's header: id and size.
        pad: Chunks begin at multiples of so many bytes.
        inclusive: Whether the size counts the chunk's header.

    Yields:
        Id, and the offset of the byte after the chunk.
    """
    header = struct.calcsize(layout)
    wide = 0
    while file.tell() + header <= end:
        raw, size = struct.unpack(layout, read_exactly(file, header))
        start = file.tell()
        if inclusive:
            size -= header
        if raw == b"ds64" and end - start >= 16:
            (wide,) = struct.unpack("<8xQ", read_exactly(file, 16))
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


def _chunk_name(name: str) -> Iterator[str]:
    """Yield the name of a chunk that does not describe the samples."""
    if name.lower() not in _AUDIO_CHUNKS:
        yield _OTHER_CHUNKS.get(name.lower(), f"chunk {name.strip()}")


def _riff(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    """Scan WAV and its relatives: RIFF, RIFX, RF64, W64."""
    inner = ">4sI" if magic == b"RIFX" else "<4sI"
    if magic == b"riff":
        file.seek(36, os.SEEK_CUR)  # W64 has GUIDs, of which the first four bytes tell enough
        chunks = _chunks(file, end, "<4s12xq", 8, inclusive=True)
    else:
        file.seek(8, os.SEEK_CUR)
        chunks = _chunks(file, end, inner, 2)
    for name, stop in chunks:
        if name.lower() != "list":
            yield from _chunk_name(name)
        elif (kind := file.read(4)) == b"INFO":
            items = _chunks(file, stop, inner, 2)
            filled = (key for key, item_end in items if item_end - file.tell() > 1)
            yield from _unread_tags(filled, INFO_TAGS, fields)
        else:
            yield "cue point labels" if kind == b"adtl" else "LIST chunk"


def _aiff(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    if file.read(8)[4:] not in (b"AIFF", b"AIFC"):
        return
    texts = []
    for name, _ in _chunks(file, end, ">4sI", 2):
        if name in AIFF_TAGS:
            texts.append(name)
        elif name != "APPL":
            yield from _chunk_name(name)
        elif (maker := file.read(4)) != b"m3ga":  # libsndfile's own, where it has the software
            yield f"application data ({printable(maker.decode('latin-1'))})"
    yield from _unread_tags(texts, AIFF_TAGS, fields)


def _caf(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    file.seek(4, os.SEEK_CUR)
    for name, stop in _chunks(file, end, ">4sq"):
        if name != "info":
            yield from _chunk_name(name)
        else:
            texts = read_exactly(file, min(stop - file.tell(), _MOST_BYTES))[4:].split(b"\0")
            pairs = zip(texts[::2], texts[1::2], strict=False)
            yield from _unread_tags((_utf8(key) for key, text in pairs if text), CAF_TAGS, fields)


# ---- Vorbis comments: FLAC, Ogg ----


def _flac(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    last = False
    while not last:
        kind, high, low = struct.unpack(">BBH", read_exactly(file, 4))
        last, kind, stop = kind >= 128, kind % 128, file.tell() + 65536 * high + low
        if kind == 2:
            yield f"application data ({printable(read_exactly(file, 4).decode('latin-1'))})"
        elif kind == 4:
            yield from _unread_tags(_comments(file), VORBIS_TAGS, fields)
        elif kind in (5, 6):
            yield "cue sheet" if kind == 5 else "picture"
        file.seek(stop)


def _ogg(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    """Join the second packet of the first audio stream, which holds the comments."""
    file.seek(-4, os.SEEK_CUR)
    stream, packet = None, b""
    known: dict[str, str] = {}
    while file.tell() < _MOST_BYTES:
        capture, flags, serial, laced = struct.unpack("<4sxB8xI8xB", read_exactly(file, 27))
        if capture != b"OggS":
            return
        lacing = read_exactly(file, laced)
        page = read_exactly(file, sum(lacing))
        if stream is None and page.startswith((b"\x01vorbis", b"OpusHead")):
            stream, known = serial, OPUS_TAGS if page.startswith(b"Opus") else VORBIS_TAGS
        elif serial == stream:
            whole = next((at for at, size in enumerate(lacing) if size < 255), None)
            packet += page if whole is None else page[: sum(lacing[: whole + 1])]
            if whole is not None:
                break
        elif stream is None and not flags & 2:
            return  # the streams have all begun, and none is of a kind known here
    comments = io.BytesIO(packet)
    comments.seek(7 if packet.startswith(b"\x03vorbis") else 8)
    yield from _unread_tags(_comments(comments), known, fields)


def _comments(file: BinaryIO) -> Iterator[str]:
    """Yield the names of the Vorbis comments that have a text, in capitals."""
    file.seek(struct.unpack("<I", read_exactly(file, 4))[0], os.SEEK_CUR)  # the encoder
    (count,) = struct.unpack("<I", read_exactly(file, 4))
    for _ in range(count):
        (size,) = struct.unpack("<I", read_exactly(file, 4))
        start = file.tell()
        key, _, text = read_exactly(file, min(size, 128)).partition(b"=")
        if text:
            yield _utf8(key).upper()
        file.seek(start + size)


# ---- NIST SPHERE, and what all need ----


def _nist(file: BinaryIO, magic: bytes, end: int, fields: dict[str, str]) -> Iterator[str]:
    for line in file.read(1020).decode("latin-1").partition("\n")[2].splitlines()[1:]:
        words = line.split()
        if words[:1] == ["end_head"]:
            return
        if len(words) > 2 and words[0] not in _NIST_FIELDS:
            yield f"tag {printable(words[0])}"


_SCANS: dict[bytes, Callable[..., Iterator[str]]] = {
    b"RIFF": _riff, b"RIFX": _riff, b"RF64": _riff, b"riff": _riff, b"FORM": _aiff, b"caff": _caf,
    b"fLaC": _flac, b"OggS": _ogg, b"NIST": _nist,
}  # fmt: skip


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def printable(name: str) -> str:
    """Return the first 60 characters of a name, each control character as a question mark."""
    return "".join(c if c.isprintable() else "?" for c in name[:60]).strip()
