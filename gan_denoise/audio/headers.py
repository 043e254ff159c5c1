"""What the header of an audio file promises, held against the bytes of the file.

Recorders that lose power never fill in the length, encoders on a pipe cannot know it, downloads end
half way. Only the formats whose decoders trust a stored length are looked at: WAV and its
relatives, FLAC, Ogg, and the Xing header of MP3. A few kilobytes are read of a file of any length.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_UNKNOWN = 0xFFFFFFFF
_SLACK = 1024  # bytes that a length may be wrong by without a word: padding, tags, a header's own
_PAGE, _PAGE_HEAD = 2**16, 512  # bytes: no page of Ogg is longer
_ENCODINGS = {  # WAVE_FORMAT_..., bits -> libsndfile's name
    (1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32", (3, 32): "FLOAT",
    (3, 64): "DOUBLE", (6, 8): "ALAW", (7, 8): "ULAW",
}  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Where the samples of a WAV lie, and how they are written.

    Attributes:
        begin: First byte.
        end: Byte behind the last.
        sample_rate: In Hz.
        channels: Count of channels.
        format: libsndfile's name of the container.
        subtype: libsndfile's name of the encoding.
        endian: `LITTLE` or `BIG`.
    """

    begin: int
    end: int
    sample_rate: int
    channels: int
    format: str
    subtype: str
    endian: str


@dataclass(frozen=True)
class Header:
    """What was found.

    Attributes:
        honest: Whether a decoder that trusts the header reads all that there is.
        frames: Samples per channel that there are, None where that takes decoding.
        note: In what the header is wrong while nothing is missing; empty where it is right.
        cut_off: What is missing of what the header promises; empty where nothing is.
        samples: Of a WAV whose header is wrong, where its encoding is a plain one.
        tells_length: Whether an MP3 has a header that tells its length, rightly or not.
        links: Beginning and end, in bytes, of each stream of an Ogg that has one after the other.
        bit_rate: That a Vorbis stream was encoded at, bits per second; None where it is not told.
    """

    honest: bool = True
    frames: int | None = None
    note: str = ""
    cut_off: str = ""
    samples: Samples | None = None
    tells_length: bool = False
    links: tuple[tuple[int, int], ...] = ()
    bit_rate: int | None = None


def examine_header(path: str | Path) -> Header:
    """Hold a file's header against its bytes; of formats not known here nothing is said.

    Raises:
        OSError: When it cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = _after_id3(file)
        file.seek(start)
        magic = file.read(12)
        file.seek(start)
        try:
            if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and magic[8:] == b"WAVE":
                return _wav(file, size)
            if magic[:4] == b"riff":
                return _w64(file, size)
            if magic[:4] == b"fLaC":
                return _flac(file, size, start)
            if magic[:4] == b"OggS":
                return _ogg(file, size)
            if magic[:4] == b"NIST":
                return _nist(file, size)
            return _mp3(file, size, start)
        except (EOFError, struct.error):
            return Header()


def unknown_size(size: int) -> bool:
    """Whether the size of a WAV's data chunk stands for "not known yet".

    Recorders write 0 until they close the file; on a pipe ffmpeg writes 0xffffffff, sox 0x7ffff000
    in whole frames, arecord 0x80000000.
    """
    return size == 0 or min(abs(size - 2**31), abs(size - 2**32)) <= 2**16


# ---- WAV ---------------------------------------------------------------------------------------
def _wav(file: BinaryIO, size: int) -> Header:
    head = _take(file, 12)
    order = ">" if head[:4] == b"RIFX" else "<"
    wide, byte_rate, align, form = 0, 0, 0, b""
    while True:
        name, promised = struct.unpack(f"{order}4sI", _take(file, 8))
        begin = file.tell()
        if name == b"data":
            break
        if name == b"fmt ":
            form = file.read(min(promised, 40))
            byte_rate, align = struct.unpack(f"{order}8xIH", form[:14])
        elif name == b"ds64":
            (wide,) = struct.unpack("<8xQ", _take(file, 16))
        file.seek(begin + promised + promised % 2)
    if head[:4] in (b"RF64", b"BW64") and promised == _UNKNOWN:
        unknown, promised = wide == 0 or wide >= 2**63 - 1, wide
    else:
        unknown = unknown_size(promised)
    there = size - begin

    def seconds(count: int) -> str:
        return f"{count / byte_rate:.2f} s" if byte_rate else f"{count} bytes"

    if promised > there:
        if unknown:  # libsndfile reads to the end of the file, where the size is large
            return Header()
        if promised - there <= max(_SLACK, align):
            return Header(note=f"its header promises {promised - there} bytes more than there are")
        return Header(cut_off=f"{seconds(there)} of {seconds(promised)} are there")
    rest = there - promised
    small = rest <= (0 if unknown else _SLACK)
    if small or _is_chunks(file, begin + promised + promised % 2, size, order):
        return Header(frames=None if promised else 0)
    samples = _samples(form, order, head[:4], begin, size)
    frames = None if samples is None else there // align
    if unknown:
        return Header(honest=False, frames=frames, samples=samples,
                      note="its header was never finished; read to its end")
    return Header(
        honest=False, frames=frames, samples=samples,
        note=f"its header promises {seconds(promised)}, {seconds(there)} are there; read to its end"
    )


def _samples(form: bytes, order: str, magic: bytes, begin: int, end: int) -> Samples | None:
    """Describe the samples of a WAV; None where its encoding is none of single samples."""
    tag, channels, rate, align, bits = struct.unpack(f"{order}HHI4xHH", form[:16])
    extensible = tag == 0xFFFE and len(form) >= 26
    if extensible:
        (tag,) = struct.unpack(f"{order}H", form[24:26])
    subtype = _ENCODINGS.get((tag, bits))
    if subtype is None or not channels or align != channels * bits // 8:
        return None
    container = "WAVEX" if extensible else "WAV"
    return Samples(begin, end, rate, channels, "RF64" if magic == b"RF64" else container, subtype,
                   "BIG" if order == ">" else "LITTLE")


def _is_chunks(file: BinaryIO, start: int, size: int, order: str) -> bool:
    """Whether what lies behind the audio is a chain of chunks or a tag, not more audio."""
    at = start
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack(f"{order}4sI", _take(file, 8))
        if at == start and name[:3] in (b"TAG", b"ID3", b"APE"):
            return True
        if not (name.isascii() and name.decode().isprintable()) or at + 8 + length > size + 1:
            return False
        at += 8 + length + length % 2
    return True


def _w64(file: BinaryIO, size: int) -> Header:
    """Find the float samples of an extensible format, which libsndfile takes for integers."""
    at = 40
    while at + 24 <= size:
        file.seek(at)
        name, length = struct.unpack("<4s12xq", _take(file, 24))
        if name == b"fmt ":
            form = file.read(max(min(length, 64) - 24, 0))
            extensible = form[:2] == b"\xfe\xff" and form[24:26] == b"\3\0"
            return Header(honest=not extensible)
        at += max(length + -length % 8, 24)
    return Header()


# ---- FLAC (RFC 9639) ---------------------------------------------------------------------------
def _flac(file: BinaryIO, size: int, start: int) -> Header:
    info = _take(file, 42)
    if info[4] & 0x7F != 0:  # the first block must be STREAMINFO
        return Header()
    (largest,) = struct.unpack(">H", info[10:12])
    packed = int.from_bytes(info[18:26], "big")
    rate, promised = packed >> 44, packed & (1 << 36) - 1
    channels, bits = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    begin = max(size - 2 * (largest * channels * bits // 8 + 4096), start + 42)
    file.seek(begin)
    tail = file.read()
    last = tail.rfind(b"\xff\xf8"), tail.rfind(b"\xff\xf9")
    if promised and promised == _flac_frame_end(tail[max(last) :][:16], largest):
        return Header(frames=promised)
    ends = list(_flac_frames(tail, largest))
    # An accidental sync code with a right checksum is rare, and it is never followed by its like.
    there = next((end for end, before in zip(ends[::-1], ends[-2::-1], strict=False)
                  if 0 < end - before <= largest), ends[-1] if len(ends) == 1 else None)
    if there is None or there == promised or not rate:
        return Header(frames=promised or None, honest=promised > 0)
    if promised == 0:
        return Header(honest=False, frames=there)
    told = f"{promised / rate:.2f} s"
    if there > promised:
        return Header(honest=False, frames=there,
                      note=f"its header promises {told}, {there / rate:.2f} s are there; read to "
                           "its end")
    return Header(honest=False, frames=there, cut_off=f"{there / rate:.2f} s of {told} are there")


def _flac_frames(data: bytes, largest: int) -> Iterator[int]:
    """Yield the end, in samples, of each frame whose header has the right checksum."""
    for place in re.finditer(b"\xff[\xf8\xf9]", data):
        end = _flac_frame_end(data[place.start() : place.start() + 16], largest)
        if end is not None:
            yield end


def _flac_frame_end(head: bytes, largest: int) -> int | None:
    """Return the sample at which a frame ends, None where this is no frame header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    code = head[2] >> 4
    ones = next((bit for bit in range(8) if not head[4] << bit & 0x80), 8)
    more = max(ones - 1, 0)  # bytes that follow, as in UTF-8
    if code == 0 or ones in (1, 8) or any(byte >> 6 != 2 for byte in head[5 : 5 + more]):
        return None
    number = head[4] & 0x7F >> ones
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    at = 5 + more
    if code in (6, 7):
        block = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    else:
        block = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if block > largest or len(head) <= at or _crc8(head[:at]) != head[at]:
        return None
    if head[1] & 1:  # blocks of varying length count samples
        return number + block
    return number * largest + block


def _crc8(data: bytes) -> int:
    check = 0
    for byte in data:
        check ^= byte
        for _ in range(8):
            check = (check << 1 ^ 0x07 if check & 0x80 else check << 1) & 0xFF
    return check


# ---- Ogg (RFC 3533) ----------------------------------------------------------------------------
def _ogg(file: BinaryIO, size: int) -> Header:
    first = _take(file, 27)
    packet = file.read(first[26] + 30)[first[26]:]
    nominal = int.from_bytes(packet[20:24], "little", signed=True)
    bit_rate = nominal if packet.startswith(b"\x01vorbis") and nominal > 0 else None
    file.seek(max(size - _PAGE - _PAGE_HEAD, 0))
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return Header()
    page = tail[at:]
    lacing = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(page) < 27 + page[26] + sum(lacing):
        return Header(cut_off="it ends within a page", bit_rate=bit_rate)
    if page[14:18] == first[14:18]:
        return Header(bit_rate=bit_rate)
    links = _ogg_links(file, size)
    return Header(honest=bool(links), links=links, bit_rate=bit_rate)


def _ogg_links(file: BinaryIO, size: int) -> tuple[tuple[int, int], ...]:
    """Return where each stream begins and ends; nothing where some run side by side."""
    begins, at, first = [], 0, False
    while at + 27 <= size:
        file.seek(at)
        head = _take(file, 27)
        if head[:4] != b"OggS":
            return ()
        if head[5] & 2:  # the first page of a stream
            if first:
                return ()
            begins.append(at)
        first = bool(head[5] & 2)
        at += 27 + head[26] + sum(_take(file, head[26]))
    return tuple(zip(begins, [*begins[1:], size], strict=True))


# ---- NIST SPHERE ------------------------------------------------------------------------------
def _nist(file: BinaryIO, size: int) -> Header:
    fields = dict(re.findall(rb"(sample_count|channel_count|sample_n_bytes) -i (\d+)",
                             file.read(1024)))
    if len(fields) < 3:
        return Header()
    promised, there = math.prod(map(int, fields.values())), size - 1024
    short = promised - there > _SLACK
    return Header(cut_off=f"{there} of {promised} bytes are there" if short else "")


# ---- MP3 ---------------------------------------------------------------------------------------
def _mp3(file: BinaryIO, size: int, start: int) -> Header:
    """Look for the count of bytes that a Xing or Info header gives; the rest is left to FFmpeg."""
    file.seek(start)
    data = file.read(4096)
    at = next((at for at in (data.find(b"Xing"), data.find(b"Info")) if at > 0), -1)
    sync = data.rfind(b"\xff", 0, max(at, 0))
    if at < 0 or sync or not 0 < at <= 40 or data[1] & 0xE0 != 0xE0:
        return Header()  # in the very first frame, or decoders do not look at it
    flags = int.from_bytes(data[at + 4 : at + 8], "big")
    if flags & 3 != 3:
        return Header()
    frames, promised = struct.unpack(">II", data[at + 8 : at + 16])
    there = size - start
    # A count that is wrong by little, or of which nothing is known, is no sign of a loss.
    if promised and frames and there < promised - max(_SLACK, promised // 200):
        return Header(tells_length=True, cut_off=f"{there} of {promised} bytes are there")
    return Header(tells_length=frames > 0)


def _after_id3(file: BinaryIO) -> int:
    """Return where the file begins behind its ID3v2 tags."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(10)
        if len(head) < 10 or not head.startswith(b"ID3"):
            return at
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 127
        at += 10 + size + (10 if head[5] & 0x10 else 0)


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
