"""The journals of an output folder: which files were begun and which are done.

One JSON line when a file is begun, and one after its outputs have their names or the work failed.
Lines are only ever appended, so that processes and machines may share a folder; the newest line of
a target holds. Each writer has a journal of its own, as on a network drive many that append to one
file wait for each other: the run without `--shard` `.gan-denoise-journal.jsonl`, every other a file
in the folder `.gan-denoise-journals`. Who reads, reads all of them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_denoise.audio.partial_files import remove_partial_files
from gan_denoise.core.file_locks import lock_file
from gan_denoise.inference.journal_entries import Entries, Entry

NAME = ".gan-denoise-journal.jsonl"
FOLDER = ".gan-denoise-journals"
FOREIGN_SECONDS = 3600.0  # without a write: a left-over, though its lock may not reach this machine
_TICK = 1e-6  # seconds between two lines, at least: a double tells them apart until 2100


class Journal:
    """The journals of one output folder; threads may share it.

    Args:
        out: The folder, which is made with the first line.
        writer: Name of the journal that is written to; those of two processes that share one are
            all there, but they wait for each other. Empty: that of a run without `--shard`.
        after: Time that the lines written are later than, by whatever clock it was told.
    """

    def __init__(self, out: str | Path, writer: str = "", after: float = 0.0):
        self.out = out = Path(out)
        self._writer = writer
        self.path = out / FOLDER / f"{writer}.jsonl" if writer else out / NAME
        self._entries = Entries()
        self._read: dict[Path, tuple[int, int]] = {}  # bytes and lines by journal
        self._written = after
        self._guard = threading.Lock()

    def values(self, worker: int | None = None) -> dict[str, Any]:
        """Return the arguments of a journal that goes on after this one, for another process.

        Args:
            worker: Number of a worker that gets a journal of its own.
        """
        own = [] if worker is None else [f"worker-{worker}"]
        return {"out": str(self.out.absolute()), "after": self._newest,
                "writer": "-".join(filter(None, [self._writer, *own]))}

    def refresh(self, own: bool = False) -> None:
        """Read the lines that were appended since the last time, by whomever.

        Torn and unknown ones are passed over.

        Args:
            own: Only those of the journal that this one writes to.
        """
        with self._guard:
            for path in [self.path] if own else self._journals():
                self._read_on(path)

    def knows(self, output: Path) -> bool:
        """Return whether a file was written here, or may have been."""
        return self._entries.knows(self._name(output))

    def entry(self, target: Path) -> Entry | None:
        """Return the newest line of a target; None where there is none, or the work failed."""
        return self._entries.entry(self._name(target))

    def whole(self, entry: Entry, outputs: Sequence[Path]) -> bool:
        """Return whether outputs are there, in the sizes that they were written in."""
        return all(_size(path) == entry.outputs.get(self._name(path), -1) for path in outputs)

    def begin(self, outputs: Sequence[Path]) -> None:
        """Note that outputs, the target first, are about to be written.

        Raises:
            OSError: When the journal cannot be written.
        """
        self._append("begun", outputs, dict.fromkeys(map(self._name, outputs), 0))

    def done(
        self, outputs: Sequence[Path], input: str, settings: str, figures: Mapping[str, Any]
    ) -> None:
        """Note that outputs, the target first, have their names.

        Raises:
            OSError: When the journal cannot be written.
        """
        sizes = {self._name(path): _size(path) for path in outputs}
        self._append("done", outputs, sizes, input=input, settings=settings, figures=dict(figures))

    def failed(self, outputs: Sequence[Path]) -> None:
        """Note that nothing was left of what was begun: what appears there is somebody else's.

        Raises:
            OSError: When the journal cannot be written.
        """
        gone = {self._name(path): 0 for path in outputs if not os.path.lexists(path)}
        self._append("failed", outputs, gone)

    def first_line(self) -> bytes:
        """Return the first line of the folder's own journal; empty where there is none.

        It holds a host, a name or a random number, so that machines which read the same one see
        the same folder.
        """
        try:
            with open(self.out / NAME, "rb") as file:
                return file.readline()
        except FileNotFoundError:
            return b""

    def mark(self) -> bytes:
        """Return the first line of the folder's own journal, after writing one where there is none.

        Raises:
            OSError: When the journal cannot be written.
        """
        if not self.first_line():
            _append_line(self.out / NAME, {"state": "folder", "id": secrets.token_hex(16)})
        return self.first_line()

    def remove_parts(self) -> None:
        """Remove the temporary files that killed runs left beside what they had begun."""
        hosts: dict[Path, set[str]] = {}
        for entry in self._entries.unfinished():
            for name in entry.outputs:
                folder = Path(os.path.normpath(self.out / name)).parent
                hosts.setdefault(folder, set()).add(entry.host)
        for folder, begun_on in hosts.items():
            own = begun_on == {platform.node()}
            remove_partial_files(folder, older_than=0.0 if own else FOREIGN_SECONDS)

    @property
    def _newest(self) -> float:
        """The time of the newest line that was read or written."""
        return max(self._entries.newest, self._written)

    def _journals(self) -> Iterator[Path]:
        yield self.out / NAME
        try:
            names = os.listdir(self.out / FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            return
        yield from (self.out / FOLDER / name for name in sorted(names) if name.endswith(".jsonl"))

    def _read_on(self, path: Path) -> None:
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
            self._entries.take(line, path.name, number)
        self._read[path] = start + len(lines) + 1, number

    def _append(self, state: str, outputs: Sequence[Path], sizes: Mapping[str, int | None],
                **more: Any) -> None:
        with self._guard:  # later than all it knows, though another machine's clock be ahead
            self._written = max(time.time(), self._newest + _TICK)
            _append_line(self.path, {
                "state": state, "target": self._name(outputs[0]), "time": self._written,
                "host": platform.node(), "outputs": sizes, **more})

    def _name(self, path: Path) -> str:
        try:
            return Path(os.path.relpath(path, self.out)).as_posix()
        except ValueError:  # a residual on another drive of Windows
            return path.as_posix()


def _append_line(path: Path, values: Mapping[str, Any]) -> None:
    line = to_json(values) + b"\n"
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


def to_json(values: Any) -> bytes:
    """Return one line of JSON in UTF-8; bytes of a name that are no UTF-8 survive as escapes."""
    text = json.dumps(values, ensure_ascii=False, default=_plain)
    return text.encode("utf-8", "backslashreplace")


def digest_of(settings: Mapping[str, Any]) -> str:
    """Return the digest of settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the digest of a file's content.

    Raises:
        OSError: When it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
