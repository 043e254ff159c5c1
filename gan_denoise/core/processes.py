"""Processes: how many are worth while, and that none outlives the one that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def depend_on_the_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_the_parent()


def cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_the_parent() -> None:
    """Let this process of `multiprocessing` end with the one that started it, even if killed."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
