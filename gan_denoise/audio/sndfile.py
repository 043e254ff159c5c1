"""libsndfile: paths as it takes them, and part of a file as a file of its own."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from gan_denoise.core.termination import held_back


def sndfile_path(path: str | Path) -> str | bytes:
    """Return a path as libsndfile takes it: bytes where the name is not valid UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return str(path)


class FileSlice(io.RawIOBase):
    """A range of bytes of a file, read as if it were a file.

    Args:
        path: The file.
        begin: Offset of the first byte.
        end: Offset of the byte after the last.

    Raises:
        OSError: When the file cannot be opened.
    """

    def __init__(self, path: Path, begin: int, end: int):
        self._file = open(path, "rb")  # noqa: SIM115 - closed with this
        self._begin, self._size, self._at = begin, end - begin, 0

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into a buffer; return the number of bytes, 0 at the end."""
        self._file.seek(self._begin + self._at)
        data = self._file.read(min(len(buffer), self._size - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset, limited to the range; return it, counted from `begin`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at

    def tell(self) -> int:
        """Return the offset, counted from `begin`."""
        return self._at

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class PartOfFile(soundfile.SoundFile):
    """A range of bytes of a file, decoded as if it were a file.

    libsndfile calls Python for it, so signals wait until a call has returned.

    Args:
        path: The file.
        begin: Offset of the first byte.
        end: Offset of the byte after the last.
        described: As for `soundfile.SoundFile`, behind the file.

    Raises:
        soundfile.LibsndfileError: When libsndfile cannot read it.
        OSError: When the file cannot be opened.
    """

    def __init__(self, path: Path, begin: int, end: int, *described: Any):
        with held_back():
            super().__init__(FileSlice(path, begin, end), *described)

    def read(self, *arguments: Any, **options: Any) -> np.ndarray:
        """Return the next samples, as `soundfile.SoundFile.read`."""
        with held_back():
            return super().read(*arguments, **options)

    def seek(self, *arguments: Any, **options: Any) -> int:
        """Go to a sample, as `soundfile.SoundFile.seek`."""
        with held_back():
            return super().seek(*arguments, **options)
