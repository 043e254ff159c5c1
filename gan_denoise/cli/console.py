"""Output of the command line: text that any terminal can show, and progress bars."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gan_denoise.core.text import escape_line, escape_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import ProgressColumn
    from rich.segment import Segment
    from rich.text import Text


def console(stderr: bool = False) -> Console:
    """Return a Rich console that writes to stdout or stderr.

    It shows names with brackets and colons as given, and escapes control characters and what the
    stream's encoding lacks, see `core.text`. All output goes through one of these, or through
    `print_text` and `print_line`.
    """
    return _escaping_console()(stderr=stderr, markup=False, emoji=False)


@functools.cache
def _escaping_console() -> type[Console]:
    from rich.console import Console
    from rich.segment import Segment

    class EscapingConsole(Console):
        @property
        def encoding(self) -> str:
            return (getattr(self.file, "encoding", None) or "utf-8").lower()

        def render_str(self, text: str, **options: Any) -> Text:  # before a table measures it
            return super().render_str(escape_text(text, self.encoding), **options)

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                if segment.control:  # of the console's own making
                    yield segment
                else:
                    yield Segment(escape_text(segment.text, self.encoding), segment.style)

    return EscapingConsole


def print_text(text: str, stderr: bool = False) -> None:
    """Print text of one or more lines, each escaped and as long as it is."""
    stream = sys.stderr if stderr else sys.stdout
    print(escape_text(text, getattr(stream, "encoding", None)), file=stream, flush=True)


def print_line(line: str, stderr: bool = False) -> None:
    """Print one line; a line break in it, as names of files may hold, is escaped too."""
    print_text(escape_line(line), stderr)


class Bar:
    """A progress bar while a `with` block runs; none where the output is no terminal.

    Args:
        *columns: Rich columns that follow the bar.
        output: Rich console to draw on; None: one of stderr.
        quiet: Draw nothing on a terminal either.
    """

    def __init__(
        self, *columns: ProgressColumn, output: Console | None = None, quiet: bool = False
    ):
        from rich.progress import BarColumn, Progress

        self.console = console(stderr=True) if output is None else output
        self._progress = Progress(
            BarColumn(bar_width=20), *columns, console=self.console, transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def update(self, done: float, total: float | None, description: str = "") -> None:
        """Draw how much is done; `description` is for a column that shows it."""
        self._progress.update(self._task, completed=done, total=total, description=description)

    def print_line(self, line: str) -> None:
        """Print a line, above the bar where one is drawn."""
        self.console.print(escape_line(line), highlight=False, soft_wrap=True)


class CountBar(Bar):
    """A bar of things counted, such as files; `progress(done, total)` of library functions.

    Args:
        unit: What is counted, in the plural.
    """

    def __init__(self, unit: str):
        from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn

        super().__init__(MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())

    def __enter__(self) -> CountBar:
        super().__enter__()
        return self

    def __call__(self, done: int, total: int) -> None:
        self.update(done, total)
