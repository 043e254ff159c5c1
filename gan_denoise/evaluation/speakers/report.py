"""The report of an analysis: an HTML page, three CSV files, a table on the terminal."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.core.tables import write_csv
from gan_denoise.evaluation.speakers.comparison import (
    ALPHA,
    EVERYONE,
    MIN_SPEAKERS,
    Analysis,
    AnalysisError,
    Comparison,
    Group,
    SpeakerMean,
)
from gan_denoise.evaluation.speakers.statistics import CONFIDENCE, RESAMPLES
from gan_denoise.evaluation.speakers.summary import format_improvement, format_interval, summarize
from gan_denoise.metrics import METRICS
from gan_denoise.reports.figures import colour, new_figure, picture_svg
from gan_denoise.reports.pages import render as render_page
from gan_denoise.reports.pages import write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import RenderableType

_WORST = 10  # speakers in the page's table
_SMALL = 4  # more groups than this that are too small to compare are shown as one
_METHOD = (
    "Improvement is the score after denoising less the score before, turned so that more is "
    "better. Files of one speaker are not independent, so every speaker counts once, with the mean "
    "of his or her files.",
    f"Intervals are for the mean of a group, by bootstrap over speakers ({CONFIDENCE:.0%}, "
    "expanded percentiles: Hesterberg 2015). Of very few speakers they promise too much: of 3 they "
    "cover the mean about 75 % of the time, of 5 about 91 %.",
    "p is how often the attribute, dealt out to the same speakers at random, would part them as "
    "much (permutation of the spread of group means; all permutations where there are at most "
    f"{RESAMPLES}). The adjusted p corrects for all comparisons on this page (Benjamini & Hochberg "
    f"1995); {ALPHA:g} or less is called a difference. The smallest p is what a perfect separation "
    "would give: where it is above that, nothing can be found, whatever is true.",
    f"Groups of less than {MIN_SPEAKERS} speakers are shown hollow and not compared. Effect of two "
    "groups: Hedges' g (1981), the difference in standard deviations between speakers (Cohen's "
    "usual words: 0.2 small, 0.8 large). Of three or more: epsilon squared (Kelley 1935), the "
    "share of the variance between speakers that the groups explain; about 0 and below is none.",
    "Attributes are compared one at a time. Where they go together, as accent and country do, one "
    "difference shows in all of them; and what is found here belongs to these recordings and "
    "noises.",
)


def write_analysis(analysis: Analysis, out: str | Path) -> Path:
    """Write `analysis.html`, and as CSV `analysis` (groups), `tests` and `speakers`.

    Args:
        analysis: The analysis.
        out: Folder to write to; existing files of these names are replaced.

    Returns:
        Path of the page.

    Raises:
        AnalysisError: When Matplotlib is not installed; nothing is written then.
        OutputError: When the folder cannot be written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise AnalysisError("the page needs matplotlib: pip install matplotlib")
    page, out = _page(analysis), Path(out)
    write_csv(out / "analysis.csv", *_group_csv(analysis))
    write_csv(out / "tests.csv", *_test_csv(analysis))
    write_csv(out / "speakers.csv", *_speaker_csv(analysis))
    return write_page(out / "analysis.html", page)


def improvement_table(analysis: Analysis) -> RenderableType:
    """Return the mean improvement of all groups, the p-values of comparisons, and the summary.

    Returns:
        What a Rich console prints.
    """
    from rich import box, console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"improvement by {analysis.system}"), title_justify="left",
                  pad_edge=False, box=box.SIMPLE_HEAD)
    for name in ("", "speakers", "files", *(METRICS[name].label for name in analysis.metrics)):
        table.add_column(name, justify="right" if name else "left", overflow="fold")

    def line(title: str, groups: Mapping[str, Group]) -> None:
        largest = _largest(groups)
        means = (format_improvement(groups[metric].mean, metric) if metric in groups else ""
                 for metric in analysis.metrics)
        table.add_row(Text(title), str(len(largest.members)), str(largest.files), *means,
                      style="dim" if largest.interval is None else "")

    line("all", {group.metric: group for group in analysis.everyone})
    for attribute in analysis.attributes:
        table.add_section()
        table.add_row(Text(attribute, style="bold"))
        for value, groups in _by_value(analysis, attribute).items():
            line(f"  {value}", groups)
        tests = {test.metric: test for test in analysis.comparisons_of(attribute)}
        for title, field in (("p", "p"), ("adjusted p", "adjusted_p")) if tests else ():
            table.add_row(f"  {title}", "", "", *(
                f"{getattr(tests[metric], field):.2g}" if metric in tests else ""
                for metric in analysis.metrics))
    summary = [line for heading, sentences in summarize(analysis).items()
               for line in (Text(heading, style="bold"),
                            *(Text(f"- {sentence}") for sentence in sentences))]
    return console.Group(table, *summary)


def _page(analysis: Analysis) -> str:
    attributes = []
    for attribute in analysis.attributes:
        comparisons = analysis.comparisons_of(attribute)
        attributes.append({
            "heading": attribute.capitalize(), "groups": _groups_table(analysis, attribute),
            "picture": picture_svg(_groups_figure(analysis, attribute)),
            "tests": _tests_table(comparisons) if comparisons else None,
        })
    return render_page(
        "speakers.html.j2", title=f"Does {analysis.system} help all speakers alike?",
        summary=summarize(analysis), attributes=attributes, confidence=f"{CONFIDENCE:.0%}",
        speakers={"picture": picture_svg(_speakers_figure(analysis)),
                  "metric": METRICS[analysis.metrics[0]].label,
                  "table": _speakers_table(analysis)},
        method=_METHOD,
    )


def _groups_table(analysis: Analysis, attribute: str) -> _Table:
    columns = ["", "speakers", "files", "input SNR"]
    columns += [METRICS[metric].label for metric in analysis.metrics]
    everyone = {group.metric: group for group in analysis.everyone}
    rows = []
    for value, groups in {EVERYONE: everyone, **_by_value(analysis, attribute)}.items():
        largest = _largest(groups)
        rows.append([value, len(largest.members), largest.files, _decibel(largest.snr_db),
                     *(_shown(groups[metric]) if metric in groups else ""
                       for metric in analysis.metrics)])
    return columns, rows


def _tests_table(comparisons: Sequence[Comparison]) -> _Table:
    columns = ["", "highest", "lowest", "difference", "effect", "p", "adjusted p",
               "smallest p", "verdict"]
    rows = []
    for test in comparisons:
        verdict = "differs" if test.found else "not found"
        rows.append([
            METRICS[test.metric].label, test.groups[0].value, test.groups[-1].value,
            format_improvement(test.difference, test.metric),
            "" if test.effect is None else f"{test.effect_name} {test.effect:.2f}",
            f"{test.p:.2g}", f"{test.adjusted_p:.2g}", f"{test.smallest_p:.2g}",
            "too few speakers" if test.smallest_p > ALPHA else verdict,
        ])
    return columns, rows


def _speakers_table(analysis: Analysis) -> _Table:
    """Return the speakers with the smallest improvement in the first metric."""
    speakers = _by_speaker(analysis)
    title = "speaker" if len(speakers) <= _WORST else f"least helped {_WORST}"
    columns = [title, "files", "input SNR", *(METRICS[name].label for name in analysis.metrics)]
    rows = []
    for speaker, means in list(speakers.items())[:_WORST]:
        most = max(means.values(), key=lambda mean: mean.files)
        rows.append([speaker, most.files, _decibel(most.snr_db),
                     *(format_improvement(means[metric].improvement, metric)
                       if metric in means else "" for metric in analysis.metrics)])
    return columns, rows


def _shown(group: Group) -> str:
    mean = format_improvement(group.mean, group.metric)
    if group.interval is None:
        return mean
    return f"{mean.removesuffix(' dB')} ({format_interval(group.interval, group.metric)})"


def _decibel(snr_db: float | None) -> str:
    return "" if snr_db is None else f"{snr_db:.1f} dB"


def _by_value(analysis: Analysis, attribute: str) -> dict[str, dict[str, Group]]:
    """Return `{value: {metric: group}}`; many small groups are shown as one.

    Not every group has every metric: a clip too short for one is scored in another.
    """
    found: dict[str, dict[str, Group]] = {}
    for metric in analysis.metrics:
        groups = analysis.groups_of(attribute, metric)
        small = [group for group in groups if not group.comparable]
        if len(small) > _SMALL:
            rest = tuple(member for group in small for member in group.members)
            groups = [group for group in groups if group.comparable]
            groups.append(Group(attribute, "smaller groups", metric, rest))
        for group in groups:
            found.setdefault(group.value, {})[metric] = group
    return found


def _largest(groups: Mapping[str, Group]) -> Group:
    """Return the group in the metric that scored the most files."""
    return max(groups.values(), key=lambda group: group.files)


def _by_speaker(analysis: Analysis) -> dict[str, dict[str, SpeakerMean]]:
    """Return `{speaker: {metric: means}}` in rising order of improvement in the first metric."""
    found: dict[str, dict[str, SpeakerMean]] = {}
    for group in analysis.everyone:
        for member in sorted(group.members, key=lambda member: member.improvement):
            found.setdefault(member.speaker, {})[group.metric] = member
    return found


def _groups_figure(analysis: Analysis, attribute: str) -> Figure:
    rows = _by_value(analysis, attribute)
    names = [f"{value} ({len(_largest(groups).members)})" for value, groups in rows.items()]
    figure, panels = _panels(analysis, names, 0.45)
    for place, groups in enumerate(rows.values()):
        for panel, metric in zip(panels, analysis.metrics, strict=True):
            if metric in groups:
                _draw_group(panel, place, groups[metric])
    return figure


def _draw_group(panel: Axes, place: int, group: Group) -> None:
    values = np.sort(group.improvements)
    # Above the mean's line; neighbours in value lie apart in height, the same in every run.
    heights = place - 0.13 + 0.12 * (np.arange(len(values)) % 3 - 1)
    panel.scatter(values, heights, s=22, linewidths=0.9, edgecolors=colour("muted"),
                  facecolors="none" if group.interval is None else colour("line"))
    if group.interval is None:
        return
    below = place + 0.22
    panel.hlines(below, *group.interval, color="black", linewidth=2)
    panel.plot(group.mean, below, marker="D", color="black", markersize=6.5, zorder=3,
               markeredgecolor="white", markeredgewidth=0.8)


def _speakers_figure(analysis: Analysis) -> Figure:
    speakers = dict(reversed(_by_speaker(analysis).items()))
    figure, panels = _panels(analysis, list(speakers), 0.22)
    for panel, group in zip(panels, analysis.everyone, strict=True):
        points = [(means[group.metric].improvement, place)
                  for place, means in enumerate(speakers.values()) if group.metric in means]
        panel.plot(*zip(*points, strict=True), "o", color="black", markersize=4.5)
        panel.axvline(group.mean, color=colour("muted"), linestyle=":", linewidth=1)
    return figure


def _panels(
    analysis: Analysis, names: Sequence[str], height: float
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with a panel for each metric side by side, and a grid line for each name."""
    figure = new_figure(9.5, 0.9 + height * max(len(names), 2))
    panels = figure.subplots(1, len(analysis.metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, analysis.metrics, strict=True):
        unit = METRICS[metric].unit
        panel.set_title(METRICS[metric].label, fontsize=10)
        panel.set_xlabel("improvement" + (" in dB" if unit == "dB" else ""), fontsize=8)
        panel.tick_params(labelsize=8, length=0)
        panel.locator_params(axis="x", nbins=4)
        panel.grid(axis="y", color=colour("line"), linewidth=0.8)
        panel.set_axisbelow(True)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.spines[["top", "left", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    return figure, panels


_Table = tuple[list[str], Sequence[Sequence[object]]]  # columns, rows


def _group_csv(analysis: Analysis) -> _Table:
    columns = ["attribute", "group", "metric", "speakers", "files", "snr_db", "noisy",
               "improvement", "low", "high", "compared"]
    rows = []
    for group in (*analysis.everyone, *analysis.groups):
        low, high = group.interval or (None, None)
        compared = group.comparable and any(
            group in test.groups for test in analysis.comparisons)
        rows.append([group.attribute, group.value, group.metric, len(group.members), group.files,
                     group.snr_db, group.noisy, group.mean, low, high, "yes" if compared else "no"])
    return columns, rows


def _test_csv(analysis: Analysis) -> _Table:
    columns = ["attribute", "metric", "groups", "highest", "lowest", "difference", "effect",
               "effect_size", "p", "adjusted_p", "smallest_p"]
    rows = []
    for test in analysis.comparisons:
        groups = "; ".join(f"{group.value} {len(group.members)}" for group in test.groups)
        rows.append([test.attribute, test.metric, groups, test.groups[0].value,
                     test.groups[-1].value, test.difference, test.effect_name, test.effect,
                     test.p, test.adjusted_p, test.smallest_p])
    return columns, rows


def _speaker_csv(analysis: Analysis) -> _Table:
    columns = ["speaker", "metric", "files", "snr_db", "noisy", "improvement"]
    rows = [
        [member.speaker, group.metric, member.files, member.snr_db, member.noisy,
         member.improvement]
        for group in analysis.everyone
        for member in sorted(group.members, key=lambda member: member.improvement)
    ]
    return columns, rows
