"""What `denoise` prints: bars of audio, remarks, the last line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_denoise.cli.console import console
from gan_denoise.core.text import escape_line

if TYPE_CHECKING:
    from gan_denoise.inference.folder import Tally
    from gan_denoise.inference.results import FileResult


def intention(result: FileResult) -> str:
    """Say what a run would do with a file."""
    if result.status == "failed":
        return f"refused: {result.error}"
    if result.status == "skipped":
        return f"skip: {result.source} (done before)"
    why = "new" if result.reason == "new" else f"redo, {result.reason}"
    return f"{why}: {result.source} -> {result.target}"


def remarks(
    results: Sequence[FileResult], passed_over: Mapping[str, Sequence[Path]]
) -> Iterator[str]:
    """Yield what is to be said of a folder run before its last line: what was left out or lost."""
    from gan_denoise.audio import describe_passed_over

    if passed_over:
        yield describe_passed_over(passed_over)
    done = [result for result in results if result.status == "done"]
    lacking = [result for result in done if result.lost]
    if lacking:
        names = dict.fromkeys(name for result in lacking for name in result.lost)
        yield (f"not kept in {_files(len(lacking))}: {', '.join(list(names)[:6])}"
               f"{', ...' if len(names) > 6 else ''} (by file: --report)")
    cut = [result for result in results if result.cut_off and result.status != "failed"]
    if cut:
        named = ", ".join(result.source.name for result in cut[:3])
        yield (f"{_files(len(cut))} cut off, done as far as there is sound: {named}"
               f"{', ...' if len(cut) > 3 else ''}")


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def summary(results: Sequence[FileResult], speed: float, out: Path) -> str:
    """Return the last line of a folder run."""
    counts = Counter(result.status for result in results)
    seconds = sum(result.seconds for result in results if result.status in ("done", "planned"))
    verb = "planned" if counts["planned"] else "done"
    files = "file" if counts[verb] == 1 else "files"
    line = (f"{counts[verb]} {files} {verb}, {counts['skipped']} skipped, "
            f"{counts['failed']} failed: {seconds / 60:.1f} min of audio")
    if counts["done"] and speed:
        line += f" at {speed:.0f} x real time"
    clipped = sum(result.clipped for result in results)
    if clipped:
        line += f" ({clipped} samples clipped: see --peak-guard)"
    return f"{line}, in {out}"


class AudioBar:
    """A bar of the audio of a folder run on stderr, the failures above it; `progress` of a run."""

    def __init__(self, quiet: bool = False):
        from rich import progress

        self._console = console(stderr=True)
        self._progress = progress.Progress(
            progress.BarColumn(bar_width=20), progress.TextColumn("{task.description}"),
            console=self._console, transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._quiet = quiet
        self._task = self._progress.add_task("", total=None)
        self.speed = 0.0
        self.passed_over: Mapping[str, Sequence[Path]] = {}

    def __enter__(self) -> AudioBar:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def __call__(self, tally: Tally) -> None:
        from gan_denoise.audio.info import describe_anomalies

        self.speed, self.passed_over = tally.speed, tally.passed_over
        result = tally.result
        if result is not None and not self._quiet:
            if result.status == "failed":
                self.say(f"failed: {result.error}")
            elif result.status == "done" and (told := describe_anomalies(result)):
                self.say(f"{result.source}: {told}")
        text = f"{_clock(tally.seconds_done)} of {_clock(tally.seconds)} of audio"
        if tally.remaining is not None:
            text += f", {tally.speed:.0f} x real time, {_clock(tally.remaining)} to go"
        self._progress.update(self._task, completed=tally.seconds_done, total=tally.seconds,
                              description=text)

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        self._console.print(escape_line(line), markup=False, emoji=False, highlight=False,
                            soft_wrap=True)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(min(seconds, 10**9))))  # a header may promise anything
