"""Standard streams that may be closed, full, or left by their reader.

The output of a command is lost then, not its work: it goes on, and its exit code tells.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

INPUT, OUTPUT, ERRORS = 0, 1, 2  # file descriptors


class TolerantStream:
    """A text stream that drops what cannot be written, instead of raising.

    Args:
        stream: The stream to write to; it also answers for every other attribute.

    Attributes:
        error: Why writing failed; None while it has not.
    """

    def __init__(self, stream: TextIO):
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
def tolerant_streams() -> Iterator[TolerantStream]:
    """Replace stdout and stderr by tolerant streams while it is entered; gives stdout."""
    _open_closed()
    output, errors = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = TolerantStream(output), TolerantStream(errors)
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
