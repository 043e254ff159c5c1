"""The journal of an output folder: which files were begun and which are done.

One JSON line when a file is begun, and one after its outputs have their names or the work failed.
Lines are only ever appended, so that processes and machines may share a folder; the last line of a
target holds.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_denoise.audio.partial_files import remove_partial_files
from gan_denoise.core.file_locks import lock_file

NAME = ".gan-denoise-journal.jsonl"
FOREIGN_SECONDS = 3600.0  # without a write: a left-over, though its lock may not reach this machine


@dataclass(frozen=True)
class Entry:
    """The last line of a target.

    Attributes:
        outputs: Sizes in bytes by name; zeros while the work is not done.
        host: The machine that did it.
        input: Digest of the input's content; None while the work is not done.
        settings: Digest of `Enhancer.settings`.
        figures: What `FileResult.figures` returned.
    """

    outputs: Mapping[str, int]
    host: str = ""
    input: str | None = None
    settings: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """The journal of one output folder; threads may share it.

    Args:
        out: The folder, which is made with the first line.
    """

    def __init__(self, out: Path):
        self.out = out
        self.path = out / NAME
        self._entries: dict[str, Entry] = {}
        self._known: set[str] = set()
        self._abandoned: list[Entry] = []  # begun, and begun again: a worker was lost amid them
        self._read = 0  # bytes
        self._guard = threading.Lock()

    def refresh(self) -> None:
        """Read the lines that were appended since the last time, by whomever.

        Torn and unknown ones are passed over.
        """
        with self._guard:
            try:
                with open(self.path, "rb") as file:
                    file.seek(self._read)
                    lines, newline, _ = file.read().rpartition(b"\n")
            except FileNotFoundError:
                return
            self._read += len(lines) + len(newline)
            for line in lines.split(b"\n"):
                self._take(line)

    def knows(self, output: Path) -> bool:
        """Return whether a file was written here, or may have been."""
        return self._name(output) in self._known

    def entry(self, target: Path) -> Entry | None:
        """Return the last line of a target."""
        return self._entries.get(self._name(target))

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
        """Return the first line; empty where there is none.

        It holds a host, a name or a random number, so that machines which read the same one see
        the same folder.
        """
        try:
            with open(self.path, "rb") as file:
                return file.readline()
        except FileNotFoundError:
            return b""

    def mark(self) -> bytes:
        """Return the first line, after writing one where there is none.

        Raises:
            OSError: When the journal cannot be written.
        """
        if not self.first_line():
            self._append_line({"state": "folder", "id": secrets.token_hex(16)})
        return self.first_line()

    def remove_parts(self) -> None:
        """Remove the temporary files that killed runs left beside what they had begun."""
        hosts: dict[Path, set[str]] = {}
        for entry in (*self._entries.values(), *self._abandoned):
            if entry.input is None:
                for name in entry.outputs:
                    folder = Path(os.path.normpath(self.out / name)).parent
                    hosts.setdefault(folder, set()).add(entry.host)
        for folder, begun_on in hosts.items():
            own = begun_on == {platform.node()}
            remove_partial_files(folder, older_than=0.0 if own else FOREIGN_SECONDS)

    def _take(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            state, target, host = values["state"], str(values["target"]), str(values["host"])
            outputs = {str(name): int(size) for name, size in values["outputs"].items()}
            before = self._entries.get(target)
            if state == "begun" and before is not None and before.input is None:
                self._abandoned.append(before)
            if state == "failed":
                self._entries.pop(target, None)
                self._known.difference_update(outputs)
            elif state in ("begun", "done"):
                entry = Entry(outputs, host)
                if state == "done":
                    entry = Entry(outputs, host, str(values["input"]), str(values["settings"]),
                                  dict(values["figures"]))
                self._entries[target] = entry
                self._known.update(outputs)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return

    def _append(self, state: str, outputs: Sequence[Path], sizes: Mapping[str, int | None],
                **more: Any) -> None:
        self._append_line({"state": state, "target": self._name(outputs[0]),
                           "host": platform.node(), "outputs": sizes, **more})

    def _append_line(self, values: Mapping[str, Any]) -> None:
        line = to_json(values) + b"\n"
        self.out.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            lock_file(handle)  # on network drives two appends may land on one place
            size = os.fstat(handle).st_size
            if size:
                os.lseek(handle, size - 1, os.SEEK_SET)
                if os.read(handle, 1) != b"\n":  # torn by a full disk or a power cut
                    line = b"\n" + line
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        finally:
            os.close(handle)

    def _name(self, path: Path) -> str:
        try:
            return Path(os.path.relpath(path, self.out)).as_posix()
        except ValueError:  # a residual on another drive of Windows
            return path.as_posix()


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
