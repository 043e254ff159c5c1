"""Copies of remote files on this machine: whole ones, and parts of large ones, in bounded space.

They lie in the folder `fetched` of the user's cache, each in a folder whose name is a hash of its
address, size and version; a file that changes in the store is therefore fetched again. Those used
longest ago are removed when they take more than `$GAN_DENOISE_FETCHED_GB` (20) gigabytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np

from gan_denoise.core.atomic_files import new_folder
from gan_denoise.core.errors import GanDenoiseError, OutputError
from gan_denoise.core.locations import LocationError, is_remote, reaching, stamp
from gan_denoise.core.user_folders import cache_folder

LIMIT = "GAN_DENOISE_FETCHED_GB"
BLOCK = 1 << 20  # bytes of a large file that are fetched at once
RECENT_SECONDS = 300.0  # what was used since then is not removed: it may be about to be opened
_LOCK = threading.Lock()  # one fetch at a time within this process, of a file or of blocks
_since_cleaning: float = float("inf")  # bytes fetched by this process since it last made room


class FetchError(GanDenoiseError):
    """A remote file cannot be kept on this machine."""


def local_copy(path: Path) -> Path:
    """Return a file of this machine with the content of a location; a path is its own copy.

    Raises:
        LocationError: When the address is missing or cannot be reached.
        FetchError: When there is no room for the copy.
    """
    if not is_remote(path):
        return path
    size, version = stamp(path)
    copy = _folder_of(path, size, version) / path.name
    if _used(copy.parent):
        return copy
    _make_room(size)
    try:
        # Another process that was first has fetched the same.
        with contextlib.suppress(OutputError), new_folder(copy.parent) as build:
            _get(path, build / path.name)
            if (build / path.name).stat().st_size != size:
                raise LocationError(f"{path}: changed while it was fetched", "run it again")
            build.chmod(0o700)  # recordings may be private
    except OSError as error:
        raise _no_room(path, error) from error
    return copy


def fetch(path: Path, file: Path) -> None:
    """Fetch an address once, into a file of the caller's.

    Raises:
        LocationError: When it is missing or cannot be reached.
        FetchError: When there is no room for it.
    """
    try:
        _get(path, file)
    except OSError as error:
        raise _no_room(path, error, file.parent) from error


class RemoteBlocks:
    """A large remote file, of which the blocks that are read are fetched, each once.

    The blocks lie in a sparse file, memory-mapped, beside a table of which are there; other
    processes use them too, now and later.

    Args:
        path: Its address.

    Raises:
        LocationError: When it is missing or cannot be reached.
        FetchError: When the file cannot be made.
    """

    def __init__(self, path: Path):
        self.path = path
        self.size, version = stamp(path)
        folder = _folder_of(path, self.size, version)
        try:
            if not _used(folder):
                with contextlib.suppress(OutputError), new_folder(folder) as build:
                    for name, size in (("data", self.size), ("blocks", self._count)):
                        with open(build / name, "wb") as file:
                            file.truncate(max(size, 1))
                    build.chmod(0o700)
            self._file = open(folder / "data", "r+b", buffering=0)  # noqa: SIM115 - kept open
            self._data = np.asarray(np.memmap(folder / "data", dtype=np.uint8, mode="r"))
            self._there = np.asarray(np.memmap(folder / "blocks", dtype=np.bool_, mode="r+"))
        except OSError as error:
            raise _no_room(path, error) from error

    @property
    def _count(self) -> int:
        return -(-self.size // BLOCK)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return bytes start..stop-1, uint8, as a view of the mapped file.

        Raises:
            LocationError: When they are not there yet and the address cannot be reached.
            FetchError: When the disk is full.
        """
        first, last = start // BLOCK, -(-stop // BLOCK)
        there = self._there
        if not (there[first] and (last - first < 2 or there[first:last].all())):
            with _LOCK:
                self._fetch(first, last)
        return self._data[start:stop]

    def _fetch(self, first: int, last: int) -> None:
        missing = first + np.flatnonzero(~self._there[first:last])
        for run in np.split(missing, 1 + np.flatnonzero(np.diff(missing) > 1)):
            if not len(run):
                continue
            begin, end = int(run[0]) * BLOCK, min((int(run[-1]) + 1) * BLOCK, self.size)
            _make_room(end - begin)
            with reaching(self.path):
                content = self.path.fs.cat_file(self.path.path, start=begin, end=end)
            if len(content) != end - begin:
                raise LocationError(f"{self.path}: {len(content)} of {end - begin} bytes came",
                                    "run it again")
            try:
                # The table says so only when the disk has it: a hole would read as silence.
                self._file.seek(begin)
                self._file.write(content)
                os.fsync(self._file.fileno())
            except OSError as error:
                raise _no_room(self.path, error) from error
            self._there[run] = True


def fetched_folder() -> Path:
    """Return the folder of the copies.

    Raises:
        OSError: When no cache folder can be written.
    """
    return cache_folder() / "fetched"


def _folder_of(path: Path, size: int, version: int | str) -> Path:
    key = hashlib.sha256(f"{path}\n{size}\n{version}".encode("utf-8", "surrogateescape"))
    return fetched_folder() / key.hexdigest()[:32]


def _used(folder: Path) -> bool:
    """Note that a copy is used now; return whether it is there."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True


def _get(path: Path, file: Path) -> None:
    with reaching(path):
        path.fs.get_file(path.path, os.fspath(file))


def _no_room(path: Path, error: OSError, folder: Path | None = None) -> FetchError:
    return FetchError(f"{path}: no copy could be made in {folder or fetched_folder()} "
                      f"({error.strerror or error})",
                      "make room there, or set GAN_DENOISE_CACHE to another folder")


def _make_room(size: int) -> None:
    """Remove the copies used longest ago where those of `size` bytes would be too many."""
    global _since_cleaning
    try:
        limit = float(os.environ.get(LIMIT) or 20) * 1e9
    except ValueError:
        raise FetchError(f"{LIMIT}: {os.environ[LIMIT]!r} is no number",
                         "give gigabytes, for instance 50") from None
    _since_cleaning += size
    if _since_cleaning < limit / 20:  # to look at all of them takes a while
        return
    _since_cleaning = size
    entries = []
    for folder in fetched_folder().glob("[0-9a-f]*"):
        with contextlib.suppress(FileNotFoundError):  # another process cleans too
            taken = sum(_bytes_on_disk(file) for file in folder.iterdir())
            entries.append((folder.stat().st_mtime, taken, folder))
    total = sum(taken for _, taken, _ in entries) + size
    for used, taken, folder in sorted(entries):
        if total <= limit or time.time() - used < RECENT_SECONDS:
            break
        shutil.rmtree(folder, ignore_errors=True)
        total -= taken


def _bytes_on_disk(file: Path) -> int:
    """Return what a file takes, holes not counted where the system tells."""
    status = file.stat()
    return 512 * status.st_blocks if hasattr(status, "st_blocks") else status.st_size
