"""Pages of Ogg (RFC 3533): whether the last one is whole, and chained streams."""

from __future__ import annotations

from typing import BinaryIO

from gan_denoise.audio.headers.header_check import HeaderCheck, read_exactly

_LONGEST_PAGE, _LONGEST_PAGE_HEADER = 2**16, 512  # bytes
_PAGE_HEADER = 27  # bytes before the table of segment sizes


def check_ogg(file: BinaryIO, size: int) -> HeaderCheck:
    """Check an Ogg.

    Args:
        file: The file, at its first byte.
        size: Size of the file in bytes.

    Raises:
        EOFError: When the first page is incomplete.
    """
    first = read_exactly(file, _PAGE_HEADER)
    packet = file.read(first[26] + 30)[first[26]:]
    nominal = int.from_bytes(packet[20:24], "little", signed=True)
    bit_rate = nominal if packet.startswith(b"\x01vorbis") and nominal > 0 else None
    file.seek(max(size - _LONGEST_PAGE - _LONGEST_PAGE_HEADER, 0))
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return HeaderCheck()
    page = tail[at:]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < _PAGE_HEADER or len(page) < _PAGE_HEADER + page[26] + sum(segments):
        return HeaderCheck(cut_off="it ends within a page", bit_rate=bit_rate)
    if page[14:18] == first[14:18]:  # the stream of the last page is that of the first
        return HeaderCheck(bit_rate=bit_rate)
    chained = _chained_streams(file, size)
    return HeaderCheck(reliable=bool(chained), chained_streams=chained, bit_rate=bit_rate)


def _chained_streams(file: BinaryIO, size: int) -> tuple[tuple[int, int], ...]:
    """Return begin and end of each stream in bytes; nothing where some are multiplexed."""
    begins, at, first = [], 0, False
    while at + _PAGE_HEADER <= size:
        file.seek(at)
        head = read_exactly(file, _PAGE_HEADER)
        if head[:4] != b"OggS":
            return ()
        if head[5] & 2:  # the first page of a stream
            if first:
                return ()
            begins.append(at)
        first = bool(head[5] & 2)
        at += _PAGE_HEADER + head[26] + sum(read_exactly(file, head[26]))
    return tuple(zip(begins, [*begins[1:], size], strict=True)) if begins else ()
