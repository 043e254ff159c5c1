"""The standard streams of a command: closed, full, or left by who read them.

What a command says is lost then, not what it does: it goes on, and its exit code tells.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

INPUT, OUTPUT, ERRORS = 0, 1, 2  # file descriptors


class Output:
    """A text stream that goes on where it cannot be written; `error` is why, else None.

    Args:
        stream: All else that is asked of it is asked of this one.
    """

    def __init__(self, stream: Any):
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write text, or lose it."""
        if self.error is None:
            try:
                self._stream.write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or lose it."""
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.error = error
        with contextlib.suppress(OSError):  # what is buffered would fail again at the exit
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting() -> Iterator[Output]:
    """Let a command go on whatever becomes of its standard streams; gives its standard output."""
    _open_closed()
    output, errors = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Output(output), Output(errors)
    try:
        yield sys.stdout
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = output, errors


def reason(error: OSError) -> str:
    """Return in words why a stream could not be read or written."""
    return "closed" if error.errno == errno.EBADF else str(error.strerror or error)


def _open_closed() -> None:
    """Put something in the place of closed descriptors.

    The next file that is opened would take the place, and what is printed would go into it. What is
    put there refuses what the stream is for, as the closed one did; of errors nobody could be told.
    """
    for descriptor, mode in ((INPUT, os.O_WRONLY), (OUTPUT, os.O_RDONLY), (ERRORS, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(INPUT, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(OUTPUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(ERRORS, "w", encoding="utf-8", errors="backslashreplace",  # noqa: SIM115
                          closefd=False)
