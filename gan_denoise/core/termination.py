"""SIGTERM and SIGHUP end a command as Ctrl-C does, with what is temporary removed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

# SIGHUP: the terminal is gone. Windows has none.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """The process was asked to end, by `number`, a signal other than Ctrl-C."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextlib.contextmanager
def raised_as_exceptions() -> Iterator[None]:
    """Raise `Terminated` in the main thread on SIGTERM and SIGHUP, within a `with` block.

    A signal that is ignored stays so: `nohup` ignores SIGHUP.
    """
    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    former = {}
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.signal(number, end) for number in ENDING
                  if signal.getsignal(number) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait for the end of a `with` block.

    For short calls of a C library that calls Python back: an exception there is printed, and lost.
    """
    inside = True
    came: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if inside:
            came.append(number)
        else:  # amid the return to the former handlers
            former[number](number, frame)

    former: dict[int, Callable[[int, FrameType | None], object]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *ENDING):
            handler = signal.getsignal(number)
            if callable(handler):
                former[number] = handler
                signal.signal(number, hold)
    try:
        yield
    finally:
        inside = False
        for number, handler in former.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def ending_signal(error: BaseException | None) -> int:
    """Return the signal that an interruption came of; that of Ctrl-C where none is known."""
    while error is not None:
        if isinstance(error, Terminated):
            return error.number
        error = error.__context__
    return signal.SIGINT
