"""Temporary files that become an output once they are whole, and what killed processes left."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

from gan_denoise.core import file_locks

_NAME = re.compile(r"\.[0-9a-f]{16}\.part")


class PartialFile:
    """A temporary file beside its target, locked while it is written.

    Its name is not made of the target's, which may already be as long as the system allows.

    Attributes:
        path: The temporary file.
        target: The file that it becomes.
    """

    def __init__(self, target: Path):
        self.path = target.parent / f".{secrets.token_hex(8)}.part"
        self.target = target
        self._handle: int | None = None

    def create(self) -> None:
        """Create the file, missing folders too, and lock it against `remove_partial_files`.

        Without locks (Windows, where an open file cannot be removed) nothing is created yet.

        Raises:
            OSError: When the folder cannot be written.
        """
        self.target.parent.mkdir(parents=True, exist_ok=True)
        while file_locks.CAN_LOCK and self._handle is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            file_locks.lock_file(handle)
            if os.fstat(handle).st_nlink:
                self._handle = handle
            else:
                os.close(handle)  # removed between its creation and its lock

    def publish(self) -> None:
        """Give the file its target's name, replacing what is there.

        Raises:
            OSError: When the target is a folder.
        """
        os.replace(self.path, self.target)

    def discard(self) -> None:
        """Remove the file, unless it is published, and release the lock."""
        self.path.unlink(missing_ok=True)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def remove_partial_files(folder: Path, older_than: float = 0.0) -> None:
    """Remove the temporary files that killed processes left; those being written stay.

    Args:
        folder: Folder to look in, without its sub-folders.
        older_than: Seconds since the last write, at least.
    """
    try:
        parts = [entry for entry in os.scandir(folder) if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for part in parts:
        with contextlib.suppress(OSError):  # removed meanwhile, or another user's
            if time.time() - part.stat().st_mtime < older_than:
                continue
            if not file_locks.CAN_LOCK:
                os.unlink(part)
                continue
            handle = os.open(part, os.O_RDWR)
            try:
                if file_locks.lock_file(handle, wait=False):
                    os.unlink(part)
            finally:
                os.close(handle)
