"""The reports of `denoise`: a row a file as CSV or JSON, and a page to see and hear."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gan_denoise.cli.options import UsageError

if TYPE_CHECKING:
    from gan_denoise.cli.denoise_output import AudioBar
    from gan_denoise.inference.enhancer import Enhancer
    from gan_denoise.inference.results import FileResult

PAGE = ".html"
SUFFIXES = (".csv", ".json", PAGE)


def check_reports(reports: Sequence[Path], dry_run: bool) -> None:
    """Refuse reports that could not be written, before any work.

    Raises:
        UsageError: In a dry run, or for another suffix.
        OutputError: Where a file cannot be written.
    """
    if reports and dry_run:
        raise UsageError("--dry-run writes nothing, also no --report")
    from gan_denoise.core.atomic_files import check_writable

    for path in reports:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"--report {path}: a report is .csv, .json or .html")
        check_writable(path)


def write_reports(
    results: Sequence[FileResult], reports: Sequence[Path], enhancer: Enhancer, out: Path,
    bar: AudioBar, stopped: bool = False,
) -> None:
    """Write each report of a run.

    Args:
        results: Of the files that the run has come to.
        reports: Files to write; their suffixes say what.
        enhancer: The model with its options.
        out: Output folder or file.
        bar: Knows how many files there are, the speed, and what was passed over.
        stopped: Whether the run was stopped before its end.

    Raises:
        OutputError: When one cannot be written.
    """
    from gan_denoise.inference.folder_report import write_report

    for path in sorted(reports, key=lambda path: path.suffix.lower() == PAGE):  # tables first
        if path.suffix.lower() != PAGE:
            write_report(results, path)
            continue
        from gan_denoise.reports.folder_page import RunFacts, write_folder_page

        facts = RunFacts(out, enhancer.mel, _settings(enhancer), bar.files or len(results), stopped,
                         bar.speed, bar.passed_over)
        write_folder_page(results, facts, path)


def _settings(enhancer: Enhancer) -> dict[str, object]:
    """Return how a run was done, in the words of the command line."""
    from gan_denoise import __version__

    options = {name.replace("_", " ").replace(" db", " (dB)"): value
               for name, value in enhancer.options.model_dump().items()}
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"model": enhancer.name, "inversion": enhancer.inversion.name, **options,
            "gan-denoise": __version__, "written": now}
