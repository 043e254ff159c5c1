"""Temporary files and folders that are locked while they are in use.

A process that is killed leaves them, unlocked: the next one that makes such a name removes them.
Where the system or the disk has no locks, nothing is removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from gan_denoise.core import file_locks

SUFFIX = ".tmp"
_RANDOM = r"[a-z0-9_]{8}"  # of tempfile
Rescue = Callable[[Path], object]


@contextlib.contextmanager
def temporary_file(target: Path) -> Iterator[tuple[int, Path]]:
    """Give an open temporary file beside `target`, and its path; removed if it is still there.

    Raises:
        OSError: When it cannot be made.
    """
    prefix = f".{target.name}."
    remove_leftovers(target.parent, prefix)
    guard = None
    while guard is None:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=SUFFIX, dir=target.parent)
        # The lock is also held behind the end of the file, until it has its new name.
        guard = _lock(os.dup(handle)) if file_locks.CAN_LOCK else -1  # Windows renames no open file
        if guard is None:
            os.close(handle)
    try:
        yield handle, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        if guard >= 0:
            os.close(guard)


@contextlib.contextmanager
def temporary_folder(
    prefix: str, parent: Path | None = None, rescue: Rescue = lambda left: None
) -> Iterator[Path]:
    """Give a temporary folder that is removed in the end.

    Args:
        prefix: What its name begins with.
        parent: Where it is; None: the system's place for temporary files.
        rescue: As for `remove_leftovers`.

    Raises:
        OSError: When it cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    remove_leftovers(parent, prefix, rescue)
    guard = None
    while guard is None:
        made = tempfile.TemporaryDirectory(prefix=prefix, suffix=SUFFIX, dir=parent,
                                           ignore_cleanup_errors=True)
        guard = -1
        if file_locks.CAN_LOCK:
            try:
                guard = _lock(os.open(made.name, os.O_RDONLY))
            except FileNotFoundError:
                guard = None
    try:
        with made:
            yield Path(made.name)
    finally:
        if guard >= 0:
            os.close(guard)


def _lock(handle: int) -> int | None:
    """Lock what has just been made; close it, and return None, where it was taken for a left-over.

    That can happen between its making and its lock.
    """
    file_locks.lock_file(handle)
    if os.fstat(handle).st_nlink:
        return handle
    os.close(handle)
    return None


def remove_leftovers(
    parent: Path, prefix: str, rescue: Rescue = lambda left: None
) -> None:
    """Remove what killed processes left in a folder; what is in use, and all else, stays.

    Args:
        parent: The folder.
        prefix: What their names begin with.
        rescue: Called with each folder before it is removed, to take out of it what is to be
            kept; by an OSError the folder stays.
    """
    name = re.compile(re.escape(prefix) + _RANDOM + re.escape(SUFFIX))
    try:
        found = [entry for entry in os.scandir(parent) if name.fullmatch(entry.name)]
    except OSError:  # there is none, or it cannot be read: then nothing is written there either
        return
    for entry in found:
        with contextlib.suppress(OSError):  # removed meanwhile, or another user's
            folder = entry.is_dir(follow_symlinks=False)
            handle = os.open(entry.path, os.O_RDONLY if folder else os.O_RDWR)
            try:
                if file_locks.lock_file(handle, wait=False):
                    left = Path(entry.path)
                    if folder:
                        rescue(left)
                        shutil.rmtree(left, ignore_errors=True)
                    else:
                        left.unlink()
            finally:
                os.close(handle)
