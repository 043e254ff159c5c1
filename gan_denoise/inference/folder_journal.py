"""The journals of an output folder: which files were begun and which are done.

One JSON line when a file is begun, and one after its outputs have their names or the work failed.
Lines are only ever appended, so that processes and machines may share a folder; the newest line of
a target holds. `journal_files` and `journal_objects` keep them on a disk and at an address.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_denoise.audio.partial_files import remove_partial_files
from gan_denoise.core.checksums import sealed
from gan_denoise.core.locations import NotThere, is_remote, location, stamp
from gan_denoise.inference.journal_entries import Entries, Entry
from gan_denoise.inference.journal_files import JournalFiles
from gan_denoise.inference.journal_objects import JournalObjects

FOREIGN_SECONDS = 3600.0  # without a write: a left-over, though its lock may not reach this machine
_TICK = 1e-6  # seconds between two lines, at least: a double tells them apart until 2100
Sizes = Callable[[Path], int | None]  # bytes of a file; None where there is none


def size_at(path: Path) -> int | None:
    """Return the size of a file in bytes; None where there is none.

    Raises:
        LocationError: When an address cannot be reached.
    """
    try:
        return stamp(path, fresh=True)[0]
    except (OSError, NotThere):
        return None


def is_there(path: Path) -> bool:
    """Return whether there is anything at a path or a file at an address.

    Raises:
        LocationError: When an address cannot be reached.
    """
    return size_at(path) is not None if is_remote(path) else os.path.lexists(path)


class Journal:
    """The journals of one output folder; threads may share it.

    Args:
        out: The folder, which is made with the first line, or its address.
        writer: Name of the journal that is written to; those of two processes that share one are
            all there, but they wait for each other. Empty: that of a run without `--shard`.
        after: Time that the lines written are later than, by whatever clock it was told.
    """

    def __init__(self, out: str | Path, writer: str = "", after: float = 0.0):
        self.out = location(out)
        self._writer = writer
        kind = JournalObjects if is_remote(self.out) else JournalFiles
        self._lines = kind(self.out, writer)
        self._entries = Entries()
        self._written = after
        self._guard = threading.Lock()

    @property
    def path(self) -> Path:
        """The journal that is written to."""
        return self._lines.path

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

        Raises:
            LocationError: When an address cannot be reached.
        """
        with self._guard:
            for journal, number, line in self._lines.new_lines(own):
                self._entries.take(line, journal, number)

    def knows(self, output: Path) -> bool:
        """Return whether a file was written here, or may have been."""
        return self._entries.knows(self._name(output))

    def entry(self, target: Path) -> Entry | None:
        """Return the newest line of a target; None where there is none, or the work failed."""
        return self._entries.entry(self._name(target))

    def settle(self, target: Path) -> None:
        """Keep no more of a target than that it was written: its work is done in this run."""
        self._entries.settle(self._name(target))

    def whole(self, entry: Entry, outputs: Sequence[Path], size: Sizes = size_at) -> bool:
        """Return whether outputs are there, in the sizes that they were written in.

        Args:
            entry: What was noted of them.
            outputs: The files.
            size: Of an output.
        """
        return all(size(path) == entry.outputs.get(self._name(path), -1) for path in outputs)

    def begin(self, outputs: Sequence[Path]) -> None:
        """Note that outputs, the target first, are about to be written.

        Raises:
            OSError: When the journal cannot be written.
            LocationError: When it cannot at an address.
        """
        self._append("begun", outputs, dict.fromkeys(map(self._name, outputs), 0))

    def done(
        self, outputs: Sequence[Path], input: str, settings: str, figures: Mapping[str, Any],
        size: Sizes = size_at,
    ) -> None:
        """Note that outputs, the target first, have their names.

        Args:
            outputs: The files.
            input: Digest of the input.
            settings: Digest of `Enhancer.settings`.
            figures: What `FileResult.figures` returned.
            size: Of an output.

        Raises:
            OSError: When the journal cannot be written.
            LocationError: When it cannot at an address.
        """
        sizes = {self._name(path): size(path) for path in outputs}
        self._append("done", outputs, sizes, input=input, settings=settings, figures=dict(figures))

    def failed(self, outputs: Sequence[Path]) -> None:
        """Note that nothing was left of what was begun: what appears there is somebody else's.

        Raises:
            OSError: When the journal cannot be written.
            LocationError: When it cannot at an address.
        """
        gone = {self._name(path): 0 for path in outputs if not is_there(path)}
        self._append("failed", outputs, gone)

    def first_line(self) -> bytes:
        """Return the first line of the folder's own journal; empty where there is none.

        It holds a host, a name or a random number, so that machines which read the same one see
        the same folder.

        Raises:
            LocationError: When an address cannot be reached.
        """
        return self._lines.first_line()

    def mark(self) -> bytes:
        """Return the first line of the folder's own journal, after writing one where there is none.

        Raises:
            OSError: When the journal cannot be written.
            LocationError: When it cannot at an address.
        """
        if not self.first_line():
            line = to_json({"state": "folder", "id": secrets.token_hex(16)}) + b"\n"
            self._lines.write_first_line(line)
        return self.first_line()

    def remove_parts(self) -> None:
        """Remove the temporary files that killed runs left beside what they had begun.

        At an address there are none.
        """
        hosts: dict[Path, set[str]] = {}
        for entry in self._entries.unfinished():
            for name in entry.outputs:
                output = self._output(name)
                if not is_remote(output):
                    folder = Path(os.path.normpath(output)).parent
                    hosts.setdefault(folder, set()).add(entry.host)
        for folder, begun_on in hosts.items():
            own = begun_on == {platform.node()}
            remove_partial_files(folder, older_than=0.0 if own else FOREIGN_SECONDS)

    @property
    def _newest(self) -> float:
        """The time of the newest line that was read or written."""
        return max(self._entries.newest, self._written)

    def _append(self, state: str, outputs: Sequence[Path], sizes: Mapping[str, int | None],
                **more: Any) -> None:
        with self._guard:  # later than all it knows, though another machine's clock be ahead
            self._written = max(time.time(), self._newest + _TICK)
            line = json.loads(to_json({
                "state": state, "target": self._name(outputs[0]), "time": self._written,
                "host": platform.node(), "outputs": sizes, **more}))
            self._lines.append(to_json(sealed(line)) + b"\n")

    def _name(self, path: Path) -> str:
        if is_remote(path):
            return str(path).removeprefix(f"{str(self.out).rstrip('/')}/")
        try:
            if not is_remote(self.out):
                return Path(os.path.relpath(path, self.out)).as_posix()
        except ValueError:  # a residual on another drive of Windows
            pass
        return path.absolute().as_posix()

    def _output(self, name: str) -> Path:
        """Return the output that has a name in the journal."""
        if is_remote(named := location(name)) or (is_remote(self.out) and named.is_absolute()):
            return named
        return self.out / name


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


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
