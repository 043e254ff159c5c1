"""The page of a folder run: what was done, skipped and failed, and some files to see and hear.

Its size is bounded whatever the number of files: tables are cut, equal reasons are one row, and a
few files are heard, ten seconds of each. The report as CSV or JSON has every file.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from gan_denoise import audio
from gan_denoise.audio import AudioError, describe_anomalies
from gan_denoise.core.text import escape_line
from gan_denoise.dsp.mel import Mel
from gan_denoise.reports.pages import render, write_page
from gan_denoise.reports.players import Track, make_tracks

MOST_ROWS = 200  # of a table
NAMED = 3  # files that stand for those of one reason
SAMPLES, SAMPLE_SECONDS = 12, 10.0  # files to hear, and how much of each
HIGHEST_RATE = 48000  # Hz of what is heard
BARS = 14  # most bars of the distribution
BAR_WIDTHS = (1, 2, 3, 5, 10, 20, 50)  # dB


class Outcome(Protocol):
    """What the page needs of the result of one file; `inference.results.FileResult` has it."""

    @property
    def source(self) -> Path: ...
    @property
    def target(self) -> Path: ...
    @property
    def status(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def peak_in_db(self) -> float | None: ...
    @property
    def peak_out_db(self) -> float | None: ...
    @property
    def noise_floor_drop_db(self) -> float | None: ...
    @property
    def clipped(self) -> int: ...
    @property
    def lost(self) -> Sequence[str]: ...
    @property
    def note(self) -> str: ...
    @property
    def cut_off(self) -> str: ...
    @property
    def error(self) -> str | None: ...


@dataclass(frozen=True)
class RunFacts:
    """What the page says of the run as a whole.

    Attributes:
        out: Output folder or file.
        mel: The model's transform, for the spectrograms.
        settings: `{name: value}` of how it was done: model, options, versions.
        files: Number of files that the run was to do.
        stopped: Whether it was stopped before its end.
        speed: Seconds of audio denoised in a second; 0 where it is not known.
        passed_over: Files that look like recordings and were not taken, by the reason.
    """

    out: Path
    mel: Mel
    settings: Mapping[str, object]
    files: int
    stopped: bool = False
    speed: float = 0.0
    passed_over: Mapping[str, Sequence[Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """A file to hear: its name, a line on it, and its tracks before and after; none with a fault.

    Attributes:
        name: The input.
        line: Its figures, or why it cannot be heard.
        tracks: Before and after, at one loudness.
    """

    name: str
    line: str
    tracks: Sequence[Track] = ()


def write_folder_page(results: Sequence[Outcome], facts: RunFacts, path: str | Path) -> Path:
    """Write the page of a run and return its path.

    Args:
        results: Of all files that are done, skipped or failed.
        facts: Of the run.
        path: The page to write; it appears whole or not at all.

    Raises:
        OutputError: When it cannot be written.
    """
    written = [result for result in results if result.status in ("done", "skipped")]
    drops = [drop for result in written if (drop := result.noise_floor_drop_db) is not None]
    clipped = heapq.nlargest(MOST_ROWS, (r for r in written if r.clipped), key=lambda r: r.clipped)
    text = render(
        "folder_page.html.j2", title="Denoised recordings", facts=facts,
        settings=[(name, _shown(value)) for name, value in facts.settings.items()],
        counts=Counter(result.status for result in results), done=len(results),
        minutes=sum(result.seconds for result in written) / 60,
        failed=_grouped((result.source, _reason(result)) for result in results if result.error),
        passed_over=[(reason, len(paths), _names(paths))
                     for reason, paths in facts.passed_over.items()],
        cut_off=_grouped((r.source, r.cut_off) for r in written if r.cut_off),
        notes=_grouped((r.source, r.note) for r in written if r.note),
        lost=_grouped((r.source, name) for r in written for name in r.lost),
        clipped=[(_name(r.source), r.clipped, _decibels(r.peak_out_db)) for r in clipped],
        clipped_files=sum(r.clipped > 0 for r in written),
        middle=float(np.median(drops)) if drops else None, bars=distribution(drops),
        samples=[_sample(result, facts.mel) for result in choose(written)],
        files=[_row(result) for result in results[:MOST_ROWS]], most_rows=MOST_ROWS,
        sample_seconds=SAMPLE_SECONDS,
    )
    return write_page(path, text)


def choose(results: Sequence[Outcome], count: int = SAMPLES) -> list[Outcome]:
    """Return files to hear, from the noise floor that fell most to the one that fell least.

    They stand at equal distances in that order, so that they show the best, the worst and what is
    usual. Files without a noise floor, such as silence, are not among them.
    """
    measured = [result for result in results if result.noise_floor_drop_db is not None]
    measured.sort(key=lambda result: -(result.noise_floor_drop_db or 0.0))
    places = np.linspace(0, len(measured) - 1, min(count, len(measured))).round().astype(int)
    return [measured[place] for place in places]


def distribution(drops: Sequence[float]) -> list[tuple[str, int, float]]:
    """Return the bars of a distribution: range in dB, number of files, share of the longest bar.

    Args:
        drops: Values in dB; may be empty.
    """
    if not drops:
        return []
    low, high = min(drops), max(drops)
    width = next((width for width in BAR_WIDTHS if (high - low) / width < BARS - 1), BAR_WIDTHS[-1])
    first, last = math.floor(low / width), math.floor(high / width)
    counts = Counter(math.floor(drop / width) for drop in drops)
    longest = max(counts.values())
    return [(f"{place * width} to {(place + 1) * width}", counts[place], counts[place] / longest)
            for place in range(first, last + 1)]


def _grouped(found: Iterable[tuple[Path, str]]) -> list[tuple[str, int, str]]:
    """Return (reason, number of files, some of them), the most frequent reason first."""
    counts: Counter[str] = Counter()
    files: dict[str, list[Path]] = {}
    for path, reason in found:
        counts[reason] += 1
        named = files.setdefault(reason, [])
        if len(named) <= NAMED:
            named.append(path)
    return [(escape_line(reason), count, _names(files[reason]))
            for reason, count in counts.most_common()]


def _reason(result: Outcome) -> str:
    """Return why a file failed, without its own name, so that equal reasons are one."""
    return (result.error or "").removeprefix(f"{result.source}: ")


def _names(paths: Sequence[Path]) -> str:
    names = ", ".join(_name(path) for path in paths[:NAMED])
    return f"{names}, ..." if len(paths) > NAMED else names


def _name(path: Path) -> str:
    return escape_line(str(path))


def _row(result: Outcome) -> tuple[object, ...]:
    """Return the cells of a file in the table of files."""
    remark = _reason(result) if result.error else describe_anomalies(result)
    return (
        _name(result.source), result.status, round(result.seconds, 1),
        _decibels(result.noise_floor_drop_db), _decibels(result.peak_in_db),
        _decibels(result.peak_out_db), result.clipped or None, escape_line(remark) or None,
    )


def _sample(result: Outcome, mel: Mel) -> Sample:
    """Return a file to hear: ten seconds from its middle, before and after."""
    name = _name(result.source)
    try:
        before, after, rate = _excerpts(result)
    except AudioError as error:
        return Sample(name, f"cannot be heard here: {escape_line(str(error))}")
    drop = _decibels(result.noise_floor_drop_db)
    line = f"{result.seconds:.1f} s; the noise floor fell by {drop} dB"
    if result.clipped:
        line += f"; {result.clipped} sample{'s' if result.clipped > 1 else ''} clipped"
    return Sample(name, line, make_tracks({"before": before, "after": after}, rate, mel))


def _excerpts(result: Outcome) -> tuple[np.ndarray, np.ndarray, int]:
    """Return mono excerpts of input and output, of one rate and length, and the rate in Hz."""
    start = max(result.seconds - SAMPLE_SECONDS, 0.0) / 2
    rate, parts = 0, []
    for path in (result.source, result.target):
        own = audio.probe(path).sample_rate
        rate = rate or min(own, HIGHEST_RATE)
        part, _ = audio.read(path, int(start * own), math.ceil(SAMPLE_SECONDS * own), rate)
        parts.append(audio.to_mono(part))
    length = min(map(len, parts))
    if not length:
        raise AudioError(f"{result.target}: has no sound at {start:.1f} s")
    return parts[0][:length], parts[1][:length], rate


def _decibels(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _shown(value: object) -> str:
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else escape_line(str(value))
