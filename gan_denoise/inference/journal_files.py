"""The journals of an output folder of this machine: files that lines are appended to under a lock.

Each writer has a journal of its own, as on a network drive many that append to one file wait for
each other: the run without `--shard` `.gan-denoise-journal.jsonl`, every other a file in the folder
`.gan-denoise-journals`. Who reads, reads all of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from gan_denoise.core.file_locks import lock_file

NAME = ".gan-denoise-journal.jsonl"
FOLDER = ".gan-denoise-journals"


class JournalFiles:
    """The journals of one folder, and the one that is written to.

    Args:
        out: The folder, which is made with the first line.
        writer: Name of the journal that is written to; empty: the folder's own.

    Attributes:
        path: The journal that is written to.
    """

    def __init__(self, out: Path, writer: str):
        self._out = out
        self.path = out / FOLDER / f"{writer}.jsonl" if writer else out / NAME
        self._read: dict[Path, tuple[int, int]] = {}  # bytes and lines by journal

    def append(self, line: bytes) -> None:
        """Append a line, which ends in a line feed, to the journal that is written to.

        Raises:
            OSError: When it cannot be written.
        """
        _append_line(self.path, line)

    def new_lines(self, own: bool = False) -> Iterator[tuple[str, int, bytes]]:
        """Yield the lines that were appended since the last time: journal, number, line.

        Args:
            own: Only those of the journal that is written to.
        """
        for path in [self.path] if own else self._journals():
            yield from self._read_on(path)

    def first_line(self) -> bytes:
        """Return the first line of the folder's own journal; empty where there is none."""
        try:
            with open(self._out / NAME, "rb") as file:
                return file.readline()
        except FileNotFoundError:
            return b""

    def write_first_line(self, line: bytes) -> None:
        """Append a line to the folder's own journal.

        Raises:
            OSError: When it cannot be written.
        """
        _append_line(self._out / NAME, line)

    def _journals(self) -> Iterator[Path]:
        yield self._out / NAME
        try:
            names = os.listdir(self._out / FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            return
        yield from (self._out / FOLDER / name for name in sorted(names) if name.endswith(".jsonl"))

    def _read_on(self, path: Path) -> Iterator[tuple[str, int, bytes]]:
        start, number = self._read.get(path, (0, 0))
        try:
            with open(path, "rb") as file:
                file.seek(start)
                lines, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        if not newline:
            return
        for number, line in enumerate(lines.split(b"\n"), number + 1):  # noqa: B020
            yield path.name, number, line
        self._read[path] = start + len(lines) + 1, number


def _append_line(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        lock_file(handle)  # on network drives two appends may land on one place
        size = os.fstat(handle).st_size
        if size:
            os.lseek(handle, size - 1, os.SEEK_SET)
            if os.read(handle, 1) != b"\n":  # torn by a full disk or a power cut
                line = b"\n" + line
        if os.write(handle, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(handle)
