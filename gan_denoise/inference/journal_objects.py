"""The journals of an output folder at an address, where nothing can be appended to.

Each process that writes has objects of its own in `.gan-denoise-journals`: the present one is
written anew with each line, and the next one is begun when it has `OBJECT_BYTES`. A line therefore
costs one PUT of bounded size, and no two processes write one object. Who reads, lists the folder
and fetches the objects that have grown. A folder that was copied from a disk to a store, or back,
keeps its journals: the lines are those of `journal_files`.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from gan_denoise.core.locations import NotThere, location, reaching, stamp, stamps
from gan_denoise.inference.journal_files import FOLDER, NAME

OBJECT_BYTES = 2**16  # of some 150 lines
FETCHED_AT_ONCE = 64  # objects


class JournalObjects:
    """The journals at one address, and the objects that this process writes.

    Args:
        out: The address.
        writer: Begin of the names of the objects; the rest is random.
    """

    def __init__(self, out: Path, writer: str):
        self._out, self._folder = out, out / FOLDER
        self._name = f"{writer or 'run'}-{secrets.token_hex(8)}"
        self._number, self._content = 1, b""
        self._read: dict[str, tuple[int, int]] = {}  # bytes and lines by address

    @property
    def path(self) -> Path:
        """The object that is written to."""
        return self._folder / f"{self._name}-{self._number:05d}.jsonl"

    def append(self, line: bytes) -> None:
        """Add a line, which ends in a line feed.

        Raises:
            LocationError: When the address cannot be reached or written.
        """
        content = self._content + line
        _write(self.path, content)
        self._content = content
        if len(content) >= OBJECT_BYTES:
            self._number, self._content = self._number + 1, b""

    def new_lines(self, own: bool = False) -> Iterator[tuple[str, int, bytes]]:
        """Yield the lines that were added since the last time: journal, number, line.

        Args:
            own: Only those of the journal that is written to: none, as nobody else writes it.

        Raises:
            LocationError: When the address cannot be reached.
        """
        if own:
            return
        grown = [name for name, size in self._sizes() if size > self._read.get(name, (0, 0))[0]]
        for start in range(0, len(grown), FETCHED_AT_ONCE):
            for name, content in self._fetch(grown[start : start + FETCHED_AT_ONCE]):
                yield from self._lines(name, content)

    def first_line(self) -> bytes:
        """Return the first line of the folder's own journal; empty where there is none."""
        path = self._out / NAME
        try:
            with reaching(path):
                return b"".join(path.fs.cat_file(path.path).splitlines(keepends=True)[:1])
        except NotThere:
            return b""

    def write_first_line(self, line: bytes) -> None:
        """Write the folder's own journal of one line.

        Raises:
            LocationError: When the address cannot be reached or written.
        """
        _write(self._out / NAME, line)

    def _sizes(self) -> Iterator[tuple[str, int]]:
        with contextlib.suppress(NotThere):
            yield str(self._out / NAME), stamp(self._out / NAME, fresh=True)[0]
        with contextlib.suppress(NotThere):
            for name, (size, _) in sorted(stamps(self._folder).items()):
                if name.endswith(".jsonl"):
                    yield name, size

    def _fetch(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Give the contents of objects, fetched side by side."""
        paths = [location(name).path for name in names]
        with reaching(self._folder):
            found = self._folder.fs.cat(paths)
        return ((name, found[path]) for name, path in zip(names, paths, strict=True))

    def _lines(self, name: str, content: bytes) -> Iterator[tuple[str, int, bytes]]:
        start, number = self._read.get(name, (0, 0))
        lines, newline, _ = content[start:].rpartition(b"\n")
        if not newline:
            return
        writer = Path(name).stem.rpartition("-")[0]  # its objects are one journal
        for number, line in enumerate(lines.split(b"\n"), number + 1):  # noqa: B020
            yield writer, number, line
        self._read[name] = start + len(lines) + 1, number


def _write(path: Path, content: bytes) -> None:
    with reaching(path):
        path.fs.pipe_file(path.path, content)
