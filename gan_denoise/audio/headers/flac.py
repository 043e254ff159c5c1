"""The header of FLAC (RFC 9639): its total of samples, compared with the last frames."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from gan_denoise.audio.headers.header_check import HeaderCheck, read_exactly


def check_flac(file: BinaryIO, size: int, start: int) -> HeaderCheck:
    """Check a FLAC; the last two frames at most are read.

    Args:
        file: The file, at `start`.
        size: Size of the file in bytes.
        start: Offset of the stream; there may be ID3 tags before.

    Raises:
        EOFError, struct.error: When the header is incomplete.
    """
    info = read_exactly(file, 42)
    if info[4] & 0x7F != 0:  # the first block must be STREAMINFO
        return HeaderCheck()
    (largest,) = struct.unpack(">H", info[10:12])  # samples of a block
    packed = int.from_bytes(info[18:26], "big")
    rate, promised = packed >> 44, packed & (1 << 36) - 1
    channels, bits = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    begin = max(size - 2 * (largest * channels * bits // 8 + 4096), start + 42)
    file.seek(begin)
    tail = file.read()
    last = tail.rfind(b"\xff\xf8"), tail.rfind(b"\xff\xf9")
    if promised and promised == _frame_end(tail[max(last) :][:16], largest):
        return HeaderCheck(frames=promised)
    there = _last_frame_end(tail, largest)
    if there is None or there == promised or not rate:
        return HeaderCheck(frames=promised or None, reliable=promised > 0)
    if promised == 0:
        return HeaderCheck(reliable=False, frames=there)
    length = f"{promised / rate:.2f} s"
    if there > promised:
        return HeaderCheck(reliable=False, frames=there,
                           note=f"its header promises {length}, {there / rate:.2f} s are there; "
                                "read to its end")
    return HeaderCheck(reliable=False, frames=there,
                       cut_off=f"{there / rate:.2f} s of {length} are there")


def _last_frame_end(tail: bytes, largest: int) -> int | None:
    """Return the sample at which the last frame ends; None where no frame is found.

    Random bytes with a sync code and a right checksum are rare; that such bytes also continue a
    frame's sample number does not occur.
    """
    ends = list(_frame_ends(tail, largest))
    for number in range(len(ends) - 1, 0, -1):
        if any(0 < ends[number] - before <= largest for before in ends[:number]):
            return ends[number]
    return ends[-1] if len(ends) == 1 else None


def _frame_ends(data: bytes, largest: int) -> Iterator[int]:
    """Yield the end, in samples, of each frame whose header has the right checksum."""
    for place in re.finditer(b"\xff[\xf8\xf9]", data):
        end = _frame_end(data[place.start() : place.start() + 16], largest)
        if end is not None:
            yield end


def _frame_end(head: bytes, largest: int) -> int | None:
    """Return the sample at which a frame ends; None where this is no frame header."""
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
    if head[1] & 1:  # blocks of varying length: the number is that of a sample
        return number + block
    return number * largest + block


def _crc8(data: bytes) -> int:
    """Return the checksum of a frame header (polynomial x^8 + x^2 + x + 1)."""
    check = 0
    for byte in data:
        check ^= byte
        for _ in range(8):
            check = (check << 1 ^ 0x07 if check & 0x80 else check << 1) & 0xFF
    return check
