"""Curves of one or more runs as a figure for papers: losses, balance of the game, validation.

Runs differ in colour (Okabe & Ito, 2008: told apart by colour-blind eyes too) and line style; the
legend names what differs in their settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import Config
from gan_denoise.core.atomic_files import check_writable, write_atomically
from gan_denoise.metrics.baselines import BEST_GAIN, NOISY
from gan_denoise.training.monitor import GAIN_SUFFIX, NOISY_SUFFIX
from gan_denoise.training.run_events import RunEvents, RunEventsError, read_run
from gan_denoise.training.tensorboard_layout import METRICS, comparable_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)))
FORMATS = ("png", "svg", "pdf")
GREY = "#555555"
COLUMN = 86.0  # mm: a column of a paper in two columns
PANEL = 44.0  # mm, height
DPI = 300
FONT = 7.0  # points
SMOOTHED = 12  # windows of a running mean in the length of a curve
SHOWN_DIFFERENCES = 3  # settings in a legend; runs that differ in more are called by their names


class Run(NamedTuple):
    """A run, and how it is drawn.

    Attributes:
        label: What it is called in the legend.
        events: What it has logged.
        style: Colour and line style, as arguments of Matplotlib's `plot`.
    """

    label: str
    events: RunEvents
    style: dict[str, Any]


def plot_runs(
    run_dirs: Sequence[Path], out: Path, metric: str | None = None, width: float = COLUMN
) -> Path:
    """Draw the curves of runs over each other and write them as a picture.

    Args:
        run_dirs: Directories of runs; the first is drawn first.
        out: File to write: PNG, SVG or PDF, by its suffix.
        metric: Validation metric; None: by which the first run's best state was chosen.
        width: Width in mm.

    Returns:
        The file.

    Raises:
        RunEventsError: When a folder is no run, no run has the metric, or the suffix is unknown.
        ConfigError: When a run has no settings.
        OutputError: When the file cannot be written.
    """
    suffix = out.suffix[1:].lower()
    if suffix not in FORMATS:
        raise RunEventsError(f"{out}: cannot tell the format of the picture",
                             f"let its name end in .{', .'.join(FORMATS)}")
    check_writable(out)
    events = [read_run(path) for path in run_dirs]
    configs = [settings_of(path, trusted=False) for path in run_dirs]
    figure = draw(styled(labels(run_dirs, configs), events),
                  metric or configs[0].training.select_by, width)
    # No date, no random identifiers: the same runs give the same file.
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "gan-denoise", "pdf.fonttype": 42}):
        dated = {} if suffix == "png" else {"metadata": {
            "Date" if suffix == "svg" else "CreationDate": None}}
        write_atomically(out, lambda file: figure.savefig(file, format=suffix, dpi=DPI, **dated))
    return out


def styled(names: Sequence[str], events: Sequence[RunEvents]) -> list[Run]:
    """Return runs with a colour and a line style each."""
    styles = zip(itertools.cycle(COLOURS), itertools.cycle(LINES), strict=False)
    return [Run(name, each, {"color": colour, "linestyle": line})
            for name, each, (colour, line) in zip(names, events, styles, strict=False)]


def labels(run_dirs: Sequence[Path], configs: Sequence[Config]) -> list[str]:
    """Return what tells runs apart: the settings that differ, else the names of their folders."""
    names = [path.absolute().name for path in run_dirs]
    if len(set(names)) < len(names):
        names = [str(path) for path in run_dirs]
    settings = [comparable_settings(config) for config in configs]
    keys = [key for key in dict.fromkeys(itertools.chain(*settings))
            if len({str(each.get(key)) for each in settings}) > 1]
    if not 0 < len(keys) <= SHOWN_DIFFERENCES:
        return names
    named = [", ".join(f"{key.partition('.')[2]} {each[key]}" for key in keys if key in each)
             for each in settings]
    return named if len(set(named)) == len(named) and all(named) else [
        f"{name}: {each}" if each else name for name, each in zip(names, named, strict=True)]


def draw(runs: Sequence[Run], metric: str, width: float = COLUMN) -> Figure:
    """Draw a figure of two or, where a discriminator was trained, three panels.

    Raises:
        RunEventsError: When no run has the validation metric.
    """
    import matplotlib
    from matplotlib.figure import Figure

    known = sorted({tag.removeprefix("valid/") for run in runs for tag in run.events.tags
                    if tag.startswith("valid/") and not tag.endswith((NOISY_SUFFIX, GAIN_SUFFIX))})
    if metric not in known:
        raise RunEventsError(f"no validation of these runs has {metric}",
                             f"they have {', '.join(known) or 'none yet: train on'}")
    game = any("loss/discriminator" in run.events.tags for run in runs)
    panels = 3 if game else 2
    with matplotlib.rc_context({"font.size": FONT, "axes.linewidth": 0.6, "lines.linewidth": 1.0,
                                "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width / 25.4, panels * PANEL / 25.4), layout="constrained")
        axes = list(figure.subplots(panels, sharex=True))
        _losses(axes[0], runs)
        if game:
            _balance(axes[1], runs)
        _validation(axes[-1], runs, metric)
        axes[-1].set_xlabel("step")
        if len(runs) > 1:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center",
                          frameon=False, ncols=1 if max(len(r.label) for r in runs) > 24 else 2)
        for panel in axes:
            panel.margins(x=0.02)
            panel.grid(alpha=0.25, linewidth=0.4)
    return figure


def _losses(panel: Axes, runs: Sequence[Run]) -> None:
    """Draw the generator's loss: each value faint, and a running mean."""
    from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter

    for run in runs:
        steps, values = run.events.curve("loss/total")
        panel.plot(steps, values, color=run.style["color"], alpha=0.25, linewidth=0.6)
        panel.plot(steps, running_mean(values), label=run.label, **run.style, **_dot(values))
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(AutoLocator() if high < 10 * low else LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_ylabel("loss of the generator")


def _dot(values: Sequence[float]) -> dict[str, Any]:
    """Return what shows a curve of one value, of which a line shows nothing."""
    return {"marker": "o", "markersize": 3} if len(values) == 1 else {}


def _balance(panel: Axes, runs: Sequence[Run]) -> None:
    """Draw what the discriminator makes of clean speech (thick) and of estimates (thin)."""
    from matplotlib.lines import Line2D

    of_clean = "score" if any("discriminator/score" in r.events.tags for r in runs) else "real"
    for run in runs:
        for name, thickness in ((of_clean, 1.4), ("fake", 0.7)):
            steps, values = run.events.curve(f"discriminator/{name}")
            panel.plot(steps, running_mean(values), **run.style, **_dot(values),
                       linewidth=thickness)
    thick = "PESQ of estimates" if of_clean == "score" else "clean"
    panel.legend(handles=[Line2D([], [], color=GREY, linewidth=1.4, label=thick),
                          Line2D([], [], color=GREY, linewidth=0.7, label="estimates")],
                 frameon=False, ncols=2, loc="best")
    panel.set_ylabel("discriminator")


def _validation(panel: Axes, runs: Sequence[Run], metric: str) -> None:
    """Draw a metric, and what it must beat: noisy (dotted) and the best gain (dash-dotted)."""
    for run in runs:
        panel.plot(*run.events.curve(f"valid/{metric}"), **run.style, marker="o", markersize=2)
    bars = {name: [_last(run, f"valid/{metric}{suffix}") for run in runs]
            for suffix, name in ((NOISY_SUFFIX, NOISY), (GAIN_SUFFIX, BEST_GAIN))}
    if bars[NOISY] == bars[BEST_GAIN]:  # a gain changes no SI-SDR
        bars = {f"{NOISY}, {BEST_GAIN}": bars[NOISY]}
    for (name, values), line in zip(bars.items(), (":", "-."), strict=False):
        same = len(set(values)) == 1  # as where all are validated on the same clips
        for run, value in list(zip(runs, values, strict=True))[: 1 if same else None]:
            if value is not None:
                panel.axhline(value, color=GREY if same else run.style["color"], linestyle=line,
                              linewidth=0.8)
        panel.plot([], [], color=GREY, linestyle=line, linewidth=0.8, label=name)
    panel.legend(frameon=False, loc="best", ncols=2)
    panel.set_ylabel(METRICS.get(metric, metric))


def _last(run: Run, tag: str) -> float | None:
    values = run.events.curve(tag)[1]
    return float(f"{values[-1]:.4g}") if len(values) else None


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return a centred running mean `[points]`, over fewer points at both ends."""
    width = max(1, len(values) // SMOOTHED) | 1
    window = np.ones(width)
    count = np.convolve(np.ones(len(values)), window, "same") if len(values) else values
    return np.convolve(values, window, "same")[: len(values)] / count if len(values) else values
