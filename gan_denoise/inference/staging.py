"""A recording and its outputs as files of this machine while they are in work.

Decoders and encoders need files that they can move about in. What lies at an address is fetched
into a temporary folder, and what goes to one is written there and uploaded when all is whole; that
folder has one recording at a time for each process. Paths of this machine are what they are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gan_denoise.audio.partial_files import PartialFile, remove_partial_files
from gan_denoise.core.fetched_files import fetch
from gan_denoise.core.file_locks import CAN_LOCK
from gan_denoise.core.locations import is_remote, publish, reaching
from gan_denoise.core.user_folders import cache_folder
from gan_denoise.inference.folder_journal import size_at

FOLDER = "in-work"  # of the user's cache
_DAY = 86400.0  # seconds; without locks (Windows) what is older was left by a process that died


class Stage:
    """The files of this machine for one recording, within a `with` block; at its end they go.

    Args:
        source: The input.
        outputs: The outputs.
        times: Whether the input's time of modification is wanted too.
    """

    def __init__(self, source: Path, outputs: Sequence[Path], times: bool = False):
        self._source, self._outputs, self._times = source, outputs, times
        self._stack = contextlib.ExitStack()
        self._here: dict[Path, Path] = {}  # file of this machine by address
        self._sizes: dict[Path, int] = {}

    def __enter__(self) -> tuple[Path, list[Path]]:
        """Return the files for the input, which is fetched, and for the outputs.

        Raises:
            LocationError: When an address cannot be reached.
            FetchError, OSError: When there is no room for the input.
        """
        source, outputs = self._source, self._outputs
        remote = [path for path in (source, *outputs) if is_remote(path)]
        if remote:
            with contextlib.ExitStack() as stack:
                folder = stack.enter_context(_folder_in_work())
                # Names of their own: those of a store may be none of this machine.
                self._here = {path: folder / f"{number}{path.suffix}"
                              for number, path in enumerate(remote)}
                if is_remote(source):
                    self._fetch(source, self._here[source])
                self._stack = stack.pop_all()
        return self._here.get(source, source), [self._here.get(path, path) for path in outputs]

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Upload the outputs, unless the block ended with an error; remove what is temporary.

        Raises:
            LocationError: When an address cannot be reached or written.
        """
        with self._stack:
            for path in self._outputs if kind is None else ():
                if path in self._here:
                    self._sizes[path] = self._here[path].stat().st_size
                    publish(self._here[path], path)

    def size(self, output: Path) -> int | None:
        """Return the size in bytes of an output that was written; None where there is none."""
        return self._sizes[output] if output in self._sizes else size_at(output)

    def with_addresses(self, text: str) -> str:
        """Return a message with the addresses in place of their files of this machine."""
        for path, here in self._here.items():
            made = "" if path == self._source else f" (made in {here.parent})"
            text = text.replace(str(here), f"{path}{made}")
        return text

    def _fetch(self, source: Path, file: Path) -> None:
        fetch(source, file)
        if self._times:
            with reaching(source):
                modified = source.fs.modified(source.path).timestamp()
            os.utime(file, (modified, modified))


@contextlib.contextmanager
def _folder_in_work() -> Iterator[Path]:
    """Give an empty folder, and remove those that killed processes left.

    A locked file beside it, which ends with its process, says that it is in use.
    """
    home = cache_folder() / FOLDER
    lock = PartialFile(home / "lock")
    folder = _folder_of(lock.path)
    try:
        lock.create()
        _remove_left(home)
        folder.mkdir(mode=0o700, parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.discard()


def _remove_left(home: Path) -> None:
    remove_partial_files(home)
    folders = [path for path in home.iterdir() if path.is_dir()]
    used = {_folder_of(path) for path in home.glob(".*.part")}  # after: each was locked before
    for folder in set(folders) - used:
        with contextlib.suppress(FileNotFoundError):  # another process removes it too
            if CAN_LOCK or time.time() - folder.stat().st_mtime > _DAY:
                shutil.rmtree(folder, ignore_errors=True)


def _folder_of(lock: Path) -> Path:
    return lock.with_name(lock.name.strip(".").removesuffix(".part"))
