"""Locks of open files against other processes."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CAN_LOCK = fcntl is not None


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
