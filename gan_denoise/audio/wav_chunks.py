"""What a WAV carries beside its audio, copied into the WAV that was made of it.

Length and rate of both are the same, so time codes, cue points and loops stay true. libsndfile
writes the text tags; here go the chunks that it does not know, and the speaker mask.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_OWN = {b"fmt ", b"data", b"fact", b"PEAK", b"JUNK", b"junk", b"PAD ", b"FLLR", b"ds64", b"levl"}
_MOST_BYTES = 2**26  # of a chunk; larger ones are left out
_EXTENSIBLE = 0xFFFE
_MASK = 20  # place of the speaker mask in an extensible format


def copy_chunks(source: Path, target: Path) -> None:
    """Append the chunks of one WAV to another that lacks them, and give it the speaker mask.

    A source that is no WAV, or a damaged one, gives nothing, or what stands before the damage.

    Raises:
        OSError: When the target cannot be written.
    """
    with open(source, "rb") as old, open(target, "r+b") as new:
        if not _is_wav(old) or not _is_wav(new):
            return
        there = dict(_chunks(new))
        carried = b""
        for name, (begin, size) in _chunks(old):
            old.seek(begin)
            if name == b"fmt ":
                _copy_mask(old.read(size), new, *there.get(b"fmt ", (0, 0)))
                continue
            kind = old.read(4)
            info = name == b"LIST" and kind == b"INFO"
            if name in _OWN or info or (name in there and name != b"LIST") or size > _MOST_BYTES:
                continue
            old.seek(begin)
            body = old.read(size)
            carried += name + struct.pack("<I", size) + body + b"\0" * (size % 2)
        end = new.seek(0, os.SEEK_END)
        if carried and end + 1 + len(carried) < 2**32:
            new.write(b"\0" * (end % 2) + carried)
            end = new.tell()
            new.seek(4)
            new.write(struct.pack("<I", end - 8))


def _copy_mask(form: bytes, target: BinaryIO, begin: int, size: int) -> None:
    """Write the speaker mask of one extensible format into that of another."""
    target.seek(begin)
    own = target.read(size)
    both = all(len(one) >= 40 and struct.unpack("<H", one[:2])[0] == _EXTENSIBLE
               for one in (form, own))
    if both and form[2:4] == own[2:4]:  # as many channels
        target.seek(begin + _MASK)
        target.write(form[_MASK : _MASK + 4])


def _is_wav(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WAVE"


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield name, (begin, size) of each chunk that is whole."""
    end = file.seek(0, os.SEEK_END)
    at = 12
    while at + 8 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if not name.isascii() or not name.decode().isprintable() or at + 8 + size > end:
            return
        yield name, (at + 8, size)
        if name == b"data" and size == 0:  # never closed: what follows is audio
            return
        at += 8 + size + size % 2
