"""Checksums of what is read back: a flipped bit is an error, not another result.

They guard against faults of disks, copies and memory, not against intent. What has none, as of an
earlier version, is read as it is.

- JSON has a key `crc32`, see `sealed`; a settings file a first line, see `sealed_text`.
- A folder has `SHA256SUMS`, which `sha256sum -c SHA256SUMS` checks too.
- Arrays have a CRC-32 for each block of 64 KiB, so that a part of them can be checked.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.core.errors import GanDenoiseError

KEY = "crc32"
SUMS = "SHA256SUMS"
BLOCK = 1 << 16  # bytes
# What NumPy and zipfile raise for a damaged file of arrays; RuntimeError: for a bit that says that
# it is encrypted, or compressed in a way that is not known; MemoryError: for a header that claims
# more than there is, or that Python's parser has no room for; OverflowError: more than an int64.
BROKEN_ARRAYS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError,
                 LookupError, TypeError, RuntimeError, MemoryError, OverflowError, SyntaxError,
                 tokenize.TokenError)
_LINE = re.compile(r"^([0-9a-f]{64})  (.+)$", re.MULTILINE)
_BEGIN = "# crc32 of the lines below: "


class DamagedError(GanDenoiseError, ValueError):
    """A file is not as it was written."""


def crc32(content: bytes) -> str:
    """Return the CRC-32, eight hexadecimal digits."""
    return f"{zlib.crc32(content):08x}"


def _of_values(values: Mapping[str, Any]) -> str:
    return crc32(json.dumps(values, sort_keys=True).encode())


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that JSON holds, with their checksum under `crc32`."""
    return {KEY: _of_values(json.loads(json.dumps(values))), **values}


def unsealed(values: Mapping[str, Any], place: object) -> dict[str, Any]:
    """Return values as they were given to `sealed`, or without a checksum.

    Args:
        values: From JSON.
        place: Where they were read, for the error.

    Raises:
        DamagedError: When they differ from what was sealed.
    """
    rest = {key: value for key, value in values.items() if key != KEY}
    damaged_key = any(len(key) == len(KEY) and sum(map(str.__ne__, key, KEY)) == 1 for key in rest)
    if damaged_key or (KEY in values and values[KEY] != _of_values(rest)):
        raise DamagedError(f"{place}: is damaged: its checksum differs",
                           f"make it again; if you have changed it, remove the entry {KEY}")
    return rest


def sealed_text(text: str) -> str:
    """Return lines of which the first, a comment, has the checksum of the others."""
    return f"{_BEGIN}{crc32(text.encode())}\n{text}"


def check_text(content: bytes, path: Path) -> None:
    """Check what `sealed_text` has made; of other text nothing is known.

    Raises:
        DamagedError: When it differs.
    """
    first, _, rest = content.partition(b"\n")
    if first.startswith(_BEGIN.encode()) and first != f"{_BEGIN}{crc32(rest)}".encode():
        raise DamagedError(f"{path}: is not as it was written: its checksum differs",
                           "take it from a copy; if you have changed it, remove its first line")


def block_sums(path: Path) -> list[int]:
    """Return the CRC-32 of each block of a file.

    Raises:
        OSError: When it cannot be read.
    """
    with open(path, "rb") as file:
        return [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK), b"")]


class CheckedBlocks:
    """The checksums of a file's blocks; each is compared when it is first read.

    Args:
        sums: CRC-32 of each block, uint32 `[blocks]`.
    """

    def __init__(self, sums: np.ndarray):
        self._sums = sums
        self._whole = np.zeros(len(sums), bool)

    def unchecked(self, start: int, stop: int) -> Iterable[int]:
        """Return the blocks of bytes start..stop-1 that were not compared yet."""
        first, last = start // BLOCK, -(-stop // BLOCK)
        if self._whole[first:last].all():
            return ()
        return (first + np.flatnonzero(~self._whole[first:last])).tolist()

    def holds(self, block: int, content: bytes | memoryview | np.ndarray) -> bool:
        """Return whether a block is as it was written; it is not asked for again then."""
        self._whole[block] = zlib.crc32(content) == int(self._sums[block])
        return bool(self._whole[block])


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` of all files of a folder.

    Raises:
        OSError: When one cannot be read, or the list not be written.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                   if path.is_file() and path.name != SUMS)
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
             for name in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path, parts: Mapping[str, bytes | None]) -> None:
    """Check files against the `SHA256SUMS` of their folder, where there is one.

    Args:
        folder: The folder.
        parts: Names, with their content; None: it is read.

    Raises:
        DamagedError: When a file, or the list, is not as it was written.
        OSError: When one cannot be read.
    """
    path = folder / SUMS
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace")
    known = {name: digest for digest, name in _LINE.findall(lines)}
    for name, content in parts.items():
        content = (folder / name).read_bytes() if content is None else content
        if known.get(name) != hashlib.sha256(content).hexdigest():
            raise DamagedError(
                f"{folder / name}: is not as it was written: its checksum in {SUMS} differs",
                f"copy the folder again, or, if you have changed the file, remove {SUMS}")
