"""The results of an analysis in sentences: groups that differ, that do not, that are too small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gan_denoise.evaluation.speakers.comparison import (
    ALPHA,
    MIN_SPEAKERS,
    Analysis,
    Comparison,
    Group,
)
from gan_denoise.evaluation.speakers.statistics import CONFIDENCE, RESAMPLES
from gan_denoise.metrics import METRICS

_SNR_APART = 1.0  # dB between mean input SNRs that a reader must know of
_SHOWN = 6  # groups in a line
_DECIMALS = {"MOS-LQO": 2, "0..1": 3, "dB": 2, "": 4}  # of an improvement, by unit


def summarize(analysis: Analysis) -> dict[str, list[str]]:
    """Return `{heading: sentences}`: the groups that differ, that do not, that are too small."""
    everyone = analysis.everyone
    lines = {
        "Over all speakers": [_overall(analysis.system, group) for group in everyone],
        "What differs": [_difference(test) for test in analysis.comparisons if test.found],
        "What does not differ, as far as can be seen": _no_difference(analysis, too_few=False),
        "What cannot be said": _no_difference(analysis, too_few=True) + _not_compared(analysis),
        "To bear in mind": _unequal_noise("The speakers", {
            member.speaker: member.snr_db for member in everyone[0].members}),
    }
    for attribute in analysis.attributes:
        for test in analysis.comparisons_of(attribute)[:1]:
            lines["To bear in mind"] += _unequal_noise(
                f"{attribute}: the groups", {group.value: group.snr_db for group in test.groups})
    lines["To bear in mind"] += analysis.notices
    return {heading: sentences for heading, sentences in lines.items() if sentences}


def format_improvement(value: float, metric: str) -> str:
    """Return an improvement or a difference with sign and unit, rounded as usual for the metric."""
    unit = METRICS[metric].unit
    return f"{value:+.{_DECIMALS[unit]}f}" + (" dB" if unit == "dB" else "")


def format_interval(interval: tuple[float, float], metric: str) -> str:
    """Return an interval of differences, `+1.05 to +1.32`."""
    low, high = (format_improvement(value, metric) for value in interval)
    return f"{low.removesuffix(' dB')} to {high}"


def _overall(system: str, group: Group) -> str:
    best = max(group.members, key=lambda member: member.improvement)
    worst = min(group.members, key=lambda member: member.improvement)
    helped = int(np.count_nonzero(group.improvements > 0))
    interval = "" if group.interval is None else (
        f" ({CONFIDENCE:.0%} interval {format_interval(group.interval, group.metric)})")
    mean = format_improvement(group.mean, group.metric)
    return (
        f"{METRICS[group.metric].label}: {system} brings {mean}{interval}; "
        f"{helped} of {len(group.members)} speakers gain, most {best.speaker} "
        f"({format_improvement(best.improvement, group.metric)}), least {worst.speaker} "
        f"({format_improvement(worst.improvement, group.metric)})."
    )


def _no_difference(analysis: Analysis, too_few: bool) -> list[str]:
    """Return sentences on comparisons without a difference.

    Args:
        analysis: The analysis.
        too_few: Whether to return those that had too few speakers to find one, or the others.
    """
    alike: dict[tuple[str, str], list[Comparison]] = {}  # not every speaker has every metric
    for test in analysis.comparisons:
        if not test.found and (test.smallest_p > ALPHA) == too_few:
            alike.setdefault((test.attribute, _sizes(test.groups)), []).append(test)
    lines = []
    for (attribute, sizes), tests in alike.items():
        labels = ", ".join(METRICS[test.metric].label for test in tests)
        verdict = "too few speakers for any finding" if too_few else "no difference was found"
        least = tests[0].smallest_p
        floor = "" if least <= 1 / (RESAMPLES + 1) else (
            f"; the smallest p that so many speakers can give is {least:.2g}")
        lines.append(f"{attribute}: {verdict} in {labels} between {sizes}{floor}.")
    return lines


def _not_compared(analysis: Analysis) -> list[str]:
    lines = []
    for attribute in analysis.attributes:
        if not analysis.comparisons_of(attribute):
            sizes = _sizes(analysis.groups_of(attribute, analysis.metrics[0]))
            lines.append(f"{attribute}: not compared. That takes two groups of {MIN_SPEAKERS} "
                         f"speakers at least; there are {sizes}.")
    return lines


def _sizes(groups: Sequence[Group]) -> str:
    ordered = sorted(groups, key=lambda group: (-len(group.members), group.value))
    names = [f"{group.value} ({len(group.members)})" for group in ordered]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _difference(test: Comparison) -> str:
    means = ", ".join(f"{format_improvement(group.mean, group.metric)} for {group.value} "
                      f"({len(group.members)})" for group in test.groups)
    effect = "" if test.effect is None else f"{test.effect_name} {test.effect:.2f}, "
    return (f"{test.attribute}: {METRICS[test.metric].label} gains {means}; {effect}"
            f"adjusted p {test.adjusted_p:.2g}.")


def _unequal_noise(who: str, snrs: Mapping[str, float | None]) -> list[str]:
    """Return a warning where input SNRs differ, on which an improvement depends."""
    if None in snrs.values():
        return []
    low, high = min(snrs, key=snrs.__getitem__), max(snrs, key=snrs.__getitem__)
    if snrs[high] - snrs[low] <= _SNR_APART:
        return []
    return [f"{who} were not given the same noise: the mean SNR of the input is {snrs[low]:.1f} dB "
            f"for {low}, {snrs[high]:.1f} dB for {high}; part of a difference can come from there."]
