"""The scores of an evaluation as tables on a terminal: means, changes, medians, means by SNR."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_denoise.evaluation.results import Evaluation
from gan_denoise.metrics import METRICS
from gan_denoise.metrics.baselines import NOISY

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group
    from rich.table import Table
    from rich.text import Text


_BY_SNR = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr", "snr", "psnr_mel", "snr_mel")
_BRIEF = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr", "psnr_mel", "mse_mel")
_DECIMALS = {"MOS-LQO": 2, "0..1": 3, "dB": 1, "": 4}


def score_tables(evaluation: Evaluation, brief: bool = False) -> Group:
    """Return the header, a table of means, changes and medians, and the means by SNR.

    Args:
        evaluation: The scores to show.
        brief: Whether to show the means and changes of the main metrics only.

    Returns:
        What a Rich console prints; a table wider than the console comes in parts.
    """
    from rich.console import Group
    from rich.text import Text

    seconds = sum(row.seconds for row in evaluation.rows if row.system == NOISY)
    rates = " and ".join(f"{x:,} Hz" for x in sorted({row.sample_rate for row in evaluation.rows}))
    count = len(evaluation.names)
    files = f"{count} file{'s' if count > 1 else ''}"
    refused = len(evaluation.refused_pairs)
    rest = f"; {refused} pair{'s' if refused > 1 else ''} refused" if refused else ""
    header = Text(f"{files}, {seconds / 60:.1f} min at {rates}{rest}")
    notices = [Text(f"- {notice}", style="yellow") for notice in evaluation.notices]
    shown = [name for name in evaluation.columns if not brief or name in _BRIEF]
    tables = [_WideTable(shown, lambda columns: _averages(evaluation, columns, brief))]
    if not brief and len(evaluation.by_snr()) > 1:
        by_snr = [name for name in _BY_SNR if name in evaluation.columns]
        tables.append(_WideTable(by_snr, lambda columns: _by_snr(evaluation, columns)))
    return Group(header, *notices, *tables)


@dataclass(frozen=True)
class _WideTable:
    """A table that is printed in parts of equal width where the console is too narrow for it.

    Attributes:
        columns: Metrics, each a column.
        table: Returns the table of some of them.
    """

    columns: Sequence[str]
    table: Callable[[Sequence[str]], Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        from rich.measure import Measurement

        count, unbounded = len(self.columns), options.update_width(10_000)
        tables: list[Table] = []
        for parts in range(1, count + 1):
            size = math.ceil(count / parts)
            tables = [self.table(self.columns[at : at + size]) for at in range(0, count, size)]
            widths = [Measurement.get(console, unbounded, each).maximum for each in tables]
            if max(widths) <= options.max_width or size == 1:
                break
        yield from tables


def _averages(evaluation: Evaluation, columns: Sequence[str], brief: bool) -> Table:
    """Return the table of means, changes with their margins, and medians."""
    from rich.text import Text

    table = _table("", columns)

    def block(title: str, systems: Iterable[str], cell: Callable[[str, str], Text]) -> None:
        table.add_section()
        table.add_row(Text(title, style="dim"))
        for system in systems:
            table.add_row(Text(system), *(cell(system, metric) for metric in columns))

    def change(system: str, metric: str) -> Text:
        return _change(evaluation.change(system, metric), metric,
                       evaluation.mean(NOISY, metric))

    def margin(system: str, metric: str) -> Text:
        value = evaluation.margin(system, metric)
        return _share(_cell(value, metric), value, metric, evaluation.mean(NOISY, metric))

    block("mean", evaluation.systems, lambda s, m: _cell(evaluation.mean(s, m), m))
    others = [system for system in evaluation.systems if system != NOISY]
    if others:
        block("vs noisy", others, change)
    if others and not brief and len(evaluation.names) > 1:
        block("± 95 %", others, margin)
    if not brief:
        block("median", evaluation.systems, lambda s, m: _cell(evaluation.median(s, m), m))
    return table


def _by_snr(evaluation: Evaluation, columns: Sequence[str]) -> Table:
    """Return the table of means by SNR."""
    from rich.text import Text

    table = _table("mean by SNR\n(files)", columns)
    for label, names in evaluation.by_snr().items():
        table.add_section()
        table.add_row(Text(f"{label} ({len(names)})", style="dim"))
        for system in evaluation.systems:
            cells = (_cell(evaluation.mean(system, m, names), m) for m in columns)
            table.add_row(Text(system), *cells)
    return table


def _table(title: str, columns: Iterable[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column(title, overflow="fold")
    for name in columns:
        label = METRICS[name].label.replace(" ", "\n")
        table.add_column(label, justify="right", vertical="bottom", no_wrap=True)
    return table


def _cell(value: float | None, metric: str, sign: str = "") -> Text:
    from rich.text import Text

    if value is None:
        return Text("-", style="dim")
    return Text(f"{value:{sign}.{_DECIMALS[METRICS[metric].unit]}f}")


def _change(value: float | None, metric: str, noisy: float | None) -> Text:
    """Return a change in green where it is an improvement, else in red."""
    cell = _share(_cell(value, metric, sign="+"), value, metric, noisy, sign="+")
    if value:
        cell.stylize("green" if (value > 0) == METRICS[metric].higher_is_better else "red")
    return cell


def _share(cell: Text, value: float | None, metric: str, noisy: float | None, sign: str = ""
           ) -> Text:
    """Return a change of an MSE as percent of the noisy input's; the cell itself for others."""
    if value and METRICS[metric].unit == "" and noisy:
        cell.plain = f"{100 * value / noisy:{sign}.0f} %"
    return cell
