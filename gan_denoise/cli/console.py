"""What the command line prints: lines, bars, and names that a terminal can show."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from gan_denoise.core.text import escape_text


def console(stderr: bool = False) -> Any:
    """Return a console that writes to stdout or stderr.

    It shows names with brackets and colons as given, and escapes what no terminal may be sent: see
    `shown`. All that is printed goes through one of these, or through `say`.
    """
    return _escaping_console()(stderr=stderr, markup=False, emoji=False)


@functools.cache
def _escaping_console() -> type:
    from rich.console import Console
    from rich.segment import Segment

    class EscapingConsole(Console):
        @property
        def encoding(self) -> str:
            return (getattr(self.file, "encoding", None) or "utf-8").lower()

        def render_str(self, text: str, **options: Any) -> Any:  # before a table measures it
            return super().render_str(escape_text(text, self.encoding), **options)

        def render(self, renderable: Any, options: Any = None) -> Iterator[Any]:
            for segment in super().render(renderable, options):
                if segment.control:  # of the console's own making
                    yield segment
                else:
                    yield Segment(escape_text(segment.text, self.encoding), segment.style)

    return EscapingConsole


def say(text: str, stderr: bool = False) -> None:
    """Print text, escaped line by line."""
    stream = sys.stderr if stderr else sys.stdout
    print(escape_text(text, getattr(stream, "encoding", None)), file=stream, flush=True)


def decoding(console: Any) -> Callable[[int, int], None]:
    """Return a callback that says on a console, now and then, how far decoding is."""
    said = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > 5:
            said = time.monotonic()
            console.print(f"decoding: {done} of {total} files", highlight=False)

    return progress


class FileBar:
    """A bar on stderr; call it with (done, total)."""

    def __init__(self, unit: str):
        from rich import progress

        errors = console(stderr=True)
        self._progress = progress.Progress(
            progress.BarColumn(bar_width=30), progress.MofNCompleteColumn(),
            progress.TextColumn(unit), progress.TimeRemainingColumn(),
            console=errors, transient=True, disable=not errors.is_terminal,
        )
        self._task = self._progress.add_task(unit, total=None)

    def __enter__(self) -> FileBar:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


