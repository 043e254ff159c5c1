"""The Xing or Info header of MP3, which counts the frames and bytes; and ID3v2 tags before it."""

from __future__ import annotations

import struct
from typing import BinaryIO

from gan_denoise.audio.headers.header_check import SLACK, HeaderCheck


def check_mp3(file: BinaryIO, size: int, start: int) -> HeaderCheck:
    """Compare the count of bytes in a Xing or Info header with the file.

    Args:
        file: The file.
        size: Size of the file in bytes.
        start: Offset of the first frame.
    """
    file.seek(start)
    data = file.read(4096)
    at = next((at for at in (data.find(b"Xing"), data.find(b"Info")) if at > 0), -1)
    sync = data.rfind(b"\xff", 0, max(at, 0))
    if at < 0 or sync or not 0 < at <= 40 or data[1] & 0xE0 != 0xE0:
        return HeaderCheck()  # decoders use the header only in the very first frame
    flags = int.from_bytes(data[at + 4 : at + 8], "big")
    if flags & 3 != 3:
        return HeaderCheck()
    frames, promised = struct.unpack(">II", data[at + 8 : at + 16])
    there = size - start
    # A count that is wrong by little, or zero, does not show that anything is missing.
    if promised and frames and there < promised - max(SLACK, promised // 200):
        return HeaderCheck(states_length=True, cut_off=f"{there} of {promised} bytes are there")
    return HeaderCheck(states_length=frames > 0)


def skip_id3(file: BinaryIO) -> int:
    """Return the offset of the first byte after all ID3v2 tags at the beginning of a file."""
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
