"""Locks of open files and of folders against other processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # all but Windows
    msvcrt = None

from gan_denoise.core.errors import GanDenoiseError

CAN_LOCK = fcntl is not None  # an open file: on Windows nobody removes or renames one anyway
_HELD = BlockingIOError if msvcrt is None else PermissionError  # what says that another has it
LOCK = ".lock"  # name of the file by which a folder is locked


def lock_file(handle: int, wait: bool = True) -> bool:
    """Lock an open file against other processes until it is closed or this process ends.

    Args:
        handle: File descriptor.
        wait: Wait while another process holds the lock.

    Returns:
        Whether it is locked now: False where another process holds it, and where the system or the
        disk has no locks.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def locked_folder(folder: Path, busy: GanDenoiseError) -> Iterator[None]:
    """Keep other processes from a folder for a `with` block, or until this process ends.

    Where the system or the disk has no locks, nobody is kept from it.

    Args:
        folder: Made where there is none; a file `.lock` stays in it.
        busy: Raised where another process is at it.

    Raises:
        OSError: When the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif msvcrt is not None:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # its first byte, which is not there
        except _HELD:
            raise busy from None
        except OSError:  # the disk has no locks
            pass
        yield
    finally:
        os.close(handle)
