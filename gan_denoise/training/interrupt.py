"""Ctrl-C, SIGTERM or SIGHUP in a training run: noted, and heeded where a state is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from gan_denoise.core.termination import ENDING, Terminated


class Interrupt:
    """An end between two steps, not within one: a state holds whole steps. Twice: at once."""

    def __init__(self) -> None:
        self.requested = False
        self._number = signal.SIGINT

    def __enter__(self) -> Interrupt:
        self._former = {}
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note)
                            for number in (signal.SIGINT, *ENDING)
                            if number == signal.SIGINT
                            or signal.getsignal(number) is not signal.SIG_IGN}  # as of nohup
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def error(self) -> KeyboardInterrupt:
        """Return the exception that says what asked."""
        if self._number == signal.SIGINT:
            return KeyboardInterrupt()
        return Terminated(self._number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number = signal.Signals(number)
        if self.requested:
            raise self.error()
        self.requested = True
