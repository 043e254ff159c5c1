"""Output of `denoise`: the bar of a folder run, what a dry run lists, the lines at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gan_denoise.cli.console import Bar

if TYPE_CHECKING:
    from gan_denoise.inference.results import FileResult, FolderProgress


def describe_plan(result: FileResult) -> str:
    """Return a line on what a run would do with a file."""
    if result.status == "failed":
        return f"refused: {result.error}"
    if result.status == "skipped":
        return f"skip: {result.source} (done before)"
    why = "new" if result.reason == "new" else f"redo, {result.reason}"
    return f"{why}: {result.source} -> {result.target}"


def describe_losses(
    results: Sequence[FileResult], passed_over: Mapping[str, Sequence[Path]]
) -> Iterator[str]:
    """Yield lines on files that were not taken, tags that were not kept, and cut-off recordings.

    Args:
        results: Of all files of a run.
        passed_over: Files that look like recordings and were not taken, by the reason.
    """
    from gan_denoise.audio import describe_passed_over

    if passed_over:
        yield describe_passed_over(passed_over)
    lossy = [result for result in results if result.status == "done" and result.lost]
    if lossy:
        names = list(dict.fromkeys(name for result in lossy for name in result.lost))
        yield f"not kept in {_files(len(lossy))}: {_first(names, 6)} (by file: --report)"
    cut_off = [result for result in results if result.cut_off and result.status != "failed"]
    if cut_off:
        names = [result.source.name for result in cut_off]
        yield (f"{_files(len(cut_off))} cut off, done as far as there is sound: "
               f"{_first(names, 3)}")


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def _first(names: Sequence[str], count: int) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def summarise(results: Sequence[FileResult], speed: float, out: Path) -> str:
    """Return the last line of a folder run: counts of files, audio, speed.

    Args:
        results: Of all files.
        speed: Seconds of audio denoised in a second; 0 where it is not known.
        out: Output folder.
    """
    counts = Counter(result.status for result in results)
    seconds = sum(result.seconds for result in results if result.status in ("done", "planned"))
    verb = "planned" if counts["planned"] else "done"
    before = " (done before)" if counts["skipped"] else ""
    line = (f"{_files(counts[verb])} {verb}, {counts['skipped']} skipped{before}, "
            f"{counts['failed']} failed: {seconds / 60:.1f} min of audio")
    if counts["done"] and speed:
        line += f" at {speed:.0f} x real time"
    clipped = sum(result.clipped for result in results)
    if clipped:
        line += f" ({clipped} samples clipped: see --peak-guard)"
    return f"{line}, in {out}"


class AudioBar(Bar):
    """A bar of the audio of a folder run, failures and remarks above it; its `progress`.

    Args:
        quiet: Show neither bar nor failures.

    Attributes:
        files: Number of files that the run is to do.
        speed: Seconds of audio denoised in a second, by the last call.
        passed_over: Files that look like recordings and were not taken, by the reason.
    """

    def __init__(self, quiet: bool = False):
        from rich.progress import TextColumn

        super().__init__(TextColumn("{task.description}"), quiet=quiet)
        self._quiet = quiet
        self.files, self.speed = 0, 0.0
        self.passed_over: Mapping[str, Sequence[Path]] = {}

    def __enter__(self) -> AudioBar:
        super().__enter__()
        return self

    def __call__(self, progress: FolderProgress) -> None:
        from gan_denoise.audio.info import describe_anomalies

        self.files, self.speed = progress.files, progress.speed
        self.passed_over = progress.passed_over
        result = progress.result
        if result is not None and not self._quiet:
            if result.status == "failed":
                self.print_line(f"failed: {result.error}")
            elif result.status == "done" and (remark := describe_anomalies(result)):
                self.print_line(f"{result.source}: {remark}")
        if not progress.all_known:
            text = (f"{progress.files_done} of {progress.files} files, "
                    f"{_clock(progress.seconds_done)} of audio, {progress.speed:.0f} x real time")
            self.update(progress.files_done, progress.files, text)
            return
        text = f"{_clock(progress.seconds_done)} of {_clock(progress.seconds)} of audio"
        if progress.remaining is not None:
            text += f", {progress.speed:.0f} x real time, {_clock(progress.remaining)} to go"
        self.update(progress.seconds_done, progress.seconds, text)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(min(seconds, 10**9))))  # a header may promise anything
