"""Ctrl-C in a training run: noted, and heeded where a state is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupt:
    """Ctrl-C between two steps, not within one: a state holds whole steps. Twice: at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        self._former = None
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
