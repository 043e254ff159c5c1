"""What Python and the C library do with the memory of this process.

Sources: documentation of Python's `gc`; glibc manual, 3.2.3.
"""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # in malloc.h of glibc
_KEPT_BYTES = 2**29  # of free memory at the end of the heap
_HEAP_BYTES = 2**28  # of the largest array that comes from the heap
_USUAL = gc.get_threshold()


def collect_seldom() -> None:
    """Let Python look for unreachable cycles of objects less often.

    What modules make when they are imported stays, and frames of audio form no cycles: looking for
    some is one twenty-fifth of the work on a recording, and finds none.
    """
    gc.set_threshold(50_000, 50, 50)


def collect_as_usual() -> None:
    """Let Python look for unreachable cycles as often as it does by itself, but not among modules.

    A server's requests and pages are such cycles: looked for seldom, thousands of them wait, with
    all the sounds and pictures that they hold.
    """
    gc.collect()
    gc.freeze()  # what is there now stays
    gc.set_threshold(*_USUAL)


def limit_arenas(count: int) -> bool:
    """Let the threads of this process share a few arenas of memory; before they are started.

    The C library gives each thread an arena of its own, and what is free in one serves no other:
    a server of many threads grows for hours by that.

    Returns:
        Whether there is such a limit here; only glibc has one.
    """
    return _mallopt({_ARENA_MAX: count})


def keep_freed_memory() -> bool:
    """Keep freed memory for the arrays to come, of all threads; before they are started.

    The C library returns that of large arrays to the system and asks for it again, page by page:
    for the parts of a recording, all of one size, that is a twentieth of the whole work. What one
    thread has freed serves the others: an arena for each would grow for hours.

    Returns:
        Whether it can be told so; only glibc can.
    """
    return _mallopt({_MMAP_THRESHOLD: _HEAP_BYTES, _TRIM_THRESHOLD: _KEPT_BYTES, _ARENA_MAX: 1})


def _mallopt(values: dict[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return all(bool(mallopt(parameter, value)) for parameter, value in values.items())
