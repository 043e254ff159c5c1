"""Chunks of a WAV copied into the WAV that was made of it: cue points, time codes, iXML, ...

Both have the same length and rate, so positions in samples stay true. libsndfile writes the text
tags; copied here are the chunks that it does not know, and the speaker mask.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Chunks that every writer makes itself.
_OWN = {b"fmt ", b"data", b"fact", b"PEAK", b"JUNK", b"junk", b"PAD ", b"FLLR", b"ds64", b"levl"}
_MOST_BYTES = 2**26  # of all chunks that are copied; those that are too large are left out
_EXTENSIBLE = 0xFFFE
_MASK = 20  # offset of the speaker mask in an extensible format


def copy_chunks(source: Path, target: Path) -> None:
    """Append the chunks that one WAV has and another lacks, and copy the speaker mask.

    Nothing is copied where one of them is no WAV; of a damaged source, the chunks before the
    damage.

    Args:
        source: The file to copy from.
        target: The file to append to.

    Raises:
        OSError: When a file cannot be opened, or the target not be written.
    """
    with open(source, "rb") as old, open(target, "r+b") as new:
        if not _is_wav(old) or not _is_wav(new):
            return
        present = dict(_chunks(new))
        carried, room = [], _MOST_BYTES
        for name, (begin, size) in _chunks(old):
            old.seek(begin)
            if name == b"fmt ":
                _copy_mask(old.read(size), new, *present.get(b"fmt ", (0, 0)))
                continue
            kind = old.read(4)
            info = name == b"LIST" and kind == b"INFO"
            if name in _OWN or info or (name in present and name != b"LIST") or size > room:
                continue
            old.seek(begin)
            body = old.read(size)
            carried.append(name + struct.pack("<I", size) + body + b"\0" * (size % 2))
            room -= size
        end = new.seek(0, os.SEEK_END)
        if carried and end + 1 + sum(map(len, carried)) < 2**32:
            new.write(b"\0" * (end % 2) + b"".join(carried))
            end = new.tell()
            new.seek(4)
            new.write(struct.pack("<I", end - 8))


def _copy_mask(form: bytes, target: BinaryIO, begin: int, size: int) -> None:
    """Copy the speaker mask if both formats are extensible and of as many channels."""
    target.seek(begin)
    own = target.read(size)
    both = all(len(one) >= 40 and struct.unpack("<H", one[:2])[0] == _EXTENSIBLE
               for one in (form, own))
    if both and form[2:4] == own[2:4]:  # as many channels
        target.seek(begin + _MASK)
        target.write(form[_MASK : _MASK + 4])


def _is_wav(file: BinaryIO) -> bool:
    """Return whether a file is a little-endian WAV of 32-bit sizes."""
    file.seek(0)
    head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WAVE"


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield the name, and begin and size in bytes, of each chunk that is whole."""
    end = file.seek(0, os.SEEK_END)
    at = 12
    while at + 8 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if not name.isascii() or not name.decode().isprintable() or at + 8 + size > end:
            return
        yield name, (at + 8, size)
        if name == b"data" and size == 0:  # never finished: what follows is audio
            return
        at += 8 + size + size % 2
