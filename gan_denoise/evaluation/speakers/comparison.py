"""Comparison of a system's improvement between groups of speakers.

The improvement is positive where the system is better than the noisy input: it is the change of the
score, with its sign turned for metrics where lower is better. The unit is the speaker: files of one
speaker are not independent, so each speaker counts once, with the mean over the files. Groups of
fewer than three speakers are shown but not compared. p-values come from permuting the attribute
among the speakers and are corrected for the number of comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.evaluation.results import Evaluation
from gan_denoise.evaluation.speakers.attributes import Speakers
from gan_denoise.evaluation.speakers.statistics import (
    adjust,
    epsilon_squared,
    hedges_g,
    mean_interval,
    permutation_p,
    smallest_p,
)
from gan_denoise.metrics import METRICS
from gan_denoise.metrics.baselines import NOISY, ORACLE

MIN_SPEAKERS = 3  # of a group that is compared: two means say nothing about their spread
ALPHA = 0.05  # level of the adjusted p at and below which groups differ
EVERYONE = "all speakers"
# The metrics that are compared by default; the correction grows with their number.
_METRICS = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr")


class AnalysisError(GanDenoiseError):
    """The scores cannot be analysed."""


@dataclass(frozen=True)
class SpeakerMean:
    """Means over the files of one speaker.

    Attributes:
        speaker: Name of the speaker.
        improvement: Improvement over the noisy input in the unit of the metric; positive is better.
        noisy: Score of the noisy input.
        snr_db: SNR of the mixtures in dB; None where a file has none.
        files: Number of files.
    """

    speaker: str
    improvement: float
    noisy: float
    snr_db: float | None
    files: int


@dataclass(frozen=True)
class Group:
    """The speakers who share a value of an attribute, in one metric.

    Attributes:
        attribute: Name of the attribute; empty for the group of all speakers.
        value: Value of the attribute that they share.
        metric: Name in `METRICS`.
        members: Means of each speaker.
        interval: Confidence interval of the mean improvement (`mean_interval`); None for fewer
            than three speakers.
    """

    attribute: str
    value: str
    metric: str
    members: tuple[SpeakerMean, ...]
    interval: tuple[float, float] | None = None

    @property
    def comparable(self) -> bool:
        """Whether the group has enough speakers to be compared."""
        return len(self.members) >= MIN_SPEAKERS

    @property
    def files(self) -> int:
        """Number of files of all members."""
        return sum(member.files for member in self.members)

    @property
    def improvements(self) -> np.ndarray:
        """Mean improvement of each member, `[speakers]`."""
        return np.array([member.improvement for member in self.members])

    @property
    def mean(self) -> float:
        """Mean of the members' improvements."""
        return float(self.improvements.mean())

    @property
    def noisy(self) -> float:
        """Mean of the members' noisy scores."""
        return float(np.mean([member.noisy for member in self.members]))

    @property
    def snr_db(self) -> float | None:
        """Mean of the members' input SNRs in dB; None where one is unknown."""
        known = [member.snr_db for member in self.members if member.snr_db is not None]
        return float(np.mean(known)) if len(known) == len(self.members) else None


@dataclass(frozen=True)
class Comparison:
    """A test of one attribute in one metric, between the groups that are large enough.

    Attributes:
        attribute: Name of the attribute.
        metric: Name in `METRICS`.
        groups: The groups in the order of falling mean.
        effect: `hedges_g` of the first over the second where there are two groups,
            `epsilon_squared` of three or more; None where no speaker differs from another.
        p: p-value of `permutation_p`.
        smallest_p: Smallest p-value that this number of speakers can give.
        adjusted_p: p-value corrected for all comparisons of the analysis.
    """

    attribute: str
    metric: str
    groups: tuple[Group, ...]
    effect: float | None
    p: float
    smallest_p: float
    adjusted_p: float = math.nan

    @property
    def difference(self) -> float:
        """Highest minus lowest mean, in the unit of the metric."""
        return self.groups[0].mean - self.groups[-1].mean

    @property
    def effect_name(self) -> str:
        """Name of the effect size."""
        return "Hedges' g" if len(self.groups) == 2 else "epsilon squared"

    @property
    def found(self) -> bool:
        """Whether the corrected p-value is small enough to speak of a difference."""
        return self.adjusted_p <= ALPHA


@dataclass(frozen=True)
class Analysis:
    """The improvements of each speaker and group, and the comparisons between groups.

    Attributes:
        system: System whose improvement is analysed.
        metrics: Names, in the order of `METRICS`.
        attributes: Names of the attributes that divide the speakers.
        everyone: The group of all speakers in each metric, in the order of `metrics`.
        groups: The groups of each attribute in each metric, large ones first.
        comparisons: The comparisons of each attribute in each metric.
        notices: Lines that a reader must know.
    """

    system: str
    metrics: tuple[str, ...]
    attributes: tuple[str, ...]
    everyone: tuple[Group, ...]
    groups: tuple[Group, ...]
    comparisons: tuple[Comparison, ...]
    notices: tuple[str, ...]

    def groups_of(self, attribute: str, metric: str) -> list[Group]:
        """Return the groups of an attribute in a metric, large ones first."""
        return [group for group in self.groups
                if (group.attribute, group.metric) == (attribute, metric)]

    def comparisons_of(self, attribute: str) -> list[Comparison]:
        """Return the comparisons of an attribute, one a metric at most."""
        return [comparison for comparison in self.comparisons
                if comparison.attribute == attribute]


def analyze(
    evaluation: Evaluation,
    speakers: Speakers,
    *,
    system: str | None = None,
    metrics: Sequence[str] = (),
    attributes: Sequence[str] = (),
    seed: int = 0,
) -> Analysis:
    """Compare a system's improvement between groups of speakers.

    Args:
        evaluation: Scores whose rows know their speaker.
        speakers: Attributes of the speakers, by the names in the rows.
        system: System to analyse; None for the first model.
        metrics: Names of metrics; empty for those of PESQ, STOI, ESTOI and SI-SDR that were scored.
        attributes: Attributes to compare; empty for all. The correction grows with their number.
        seed: Seed of the resampling.

    Raises:
        AnalysisError: When the system, a metric or an attribute is unknown, or no file has a
            speaker and a score.
    """
    system = _chosen_system(evaluation, system)
    metrics = _chosen_metrics(evaluation, metrics)
    notices = list(speakers.notices) + _missing_speakers(evaluation)
    everyone = []
    for metric in metrics:
        members, dropped = _speaker_means(evaluation, system, metric)
        if not members:
            raise AnalysisError(f"{METRICS[metric].label} scored no file of {system} by a known "
                                "speaker", "give other metrics")
        if dropped:
            notices.append(f"{METRICS[metric].label}: {dropped} files left out, whose score is "
                           "infinite")
        everyone.append(_with_interval(Group("", EVERYONE, metric, members), seed))
    names = list(dict.fromkeys(member.speaker for group in everyone for member in group.members))
    known = _attributes(names, speakers, attributes, notices)
    groups = [_with_interval(group, seed) for attribute in known for whole in everyone
              for group in _divide(whole, attribute, speakers)]
    comparisons = []
    for attribute in known:
        for metric in metrics:
            able = [group for group in groups if group.comparable
                    and (group.attribute, group.metric) == (attribute, metric)]
            if len(able) > 1:
                comparisons.append(_compare(able, seed))
    adjusted = adjust([comparison.p for comparison in comparisons])
    comparisons = [replace(comparison, adjusted_p=float(p))
                   for comparison, p in zip(comparisons, adjusted, strict=True)]
    return Analysis(system, metrics, tuple(known), tuple(everyone), tuple(groups),
                    tuple(comparisons), tuple(notices))


def _chosen_system(evaluation: Evaluation, system: str | None) -> str:
    able = [name for name in evaluation.systems if name != NOISY]
    models = [name for name in able if not name.startswith(ORACLE)] or able
    if not able:
        raise AnalysisError("only the noisy input was scored", "evaluate a model beside it")
    if system is None:
        return models[0]
    if system not in able:
        raise AnalysisError(f"no system '{system}' was scored; there is {', '.join(able)}")
    return system


def _chosen_metrics(evaluation: Evaluation, metrics: Sequence[str]) -> tuple[str, ...]:
    columns = [name for name in evaluation.columns if evaluation.common(name)]
    for name in metrics:
        if name not in columns:
            raise AnalysisError(f"metric '{name}' has no scores; there is {', '.join(columns)}")
    usual = [name for name in columns if name in _METRICS]
    return tuple(name for name in columns if name in (metrics or usual or columns))


def _missing_speakers(evaluation: Evaluation) -> list[str]:
    unknown = {row.name for row in evaluation.rows if row.speaker is None}
    if len(unknown) == len(evaluation.names):
        raise AnalysisError(
            f"no file has a speaker (the first is {evaluation.names[0]})",
            "a pattern over the files' names can tell: --speaker-pattern '^([a-z]+)_' "
            "takes what stands before the _"
        )
    if not unknown:
        return []
    return [f"{len(unknown)} of {len(evaluation.names)} files left out, whose speaker is unknown"]


def _speaker_means(
    evaluation: Evaluation, system: str, metric: str
) -> tuple[tuple[SpeakerMean, ...], int]:
    """Return the means of each speaker, and the number of files without a finite improvement."""
    rows = {row.name: row for row in evaluation.rows if row.system == NOISY}
    scored = {row.name for row in evaluation.rows if row.system == system and metric in row.scores}
    names = [name for name in evaluation.common(metric) if name in scored]  # not all of silence
    noisy = evaluation.values(NOISY, metric, names)
    improvement = evaluation.values(system, metric, names) - noisy
    improvement *= 1 if METRICS[metric].higher_is_better else -1
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if rows[name].speaker is not None and math.isfinite(improvement[place]):
            places.setdefault(rows[name].speaker, []).append(place)
    members = []
    for speaker, own in sorted(places.items()):
        snrs = [rows[names[place]].snr_db for place in own]
        members.append(SpeakerMean(
            speaker, float(improvement[own].mean()), float(noisy[own].mean()),
            None if None in snrs else float(np.mean(snrs)), len(own),
        ))
    return tuple(members), int(np.count_nonzero(~np.isfinite(improvement)))


def _attributes(
    names: Sequence[str], speakers: Speakers, chosen: Sequence[str], notices: list[str]
) -> list[str]:
    """Return the attributes that divide the speakers into groups; append a notice on the others."""
    values: dict[str, list[str]] = {}
    for name in names:
        for attribute, value in (speakers.find(name) or {}).items():
            values.setdefault(attribute, []).append(value)
    for attribute in chosen:
        if attribute not in values:
            raise AnalysisError(f"attribute '{attribute}' is known of no speaker; there is "
                                f"{', '.join(values) or 'none: give --speakers FILE'}")
    able = []
    for attribute, found in values.items():
        if chosen and attribute not in chosen:
            continue
        if len(set(found)) == 1:
            notices.append(f"{attribute}: {found[0]} of all speakers; nothing to compare")
        elif len(set(found)) == len(found):
            notices.append(f"{attribute}: another of each speaker; nothing to compare")
        else:
            able.append(attribute)
            lacking = len(names) - len(found)
            if lacking:
                notices.append(f"{attribute}: unknown of {lacking} of {len(names)} speakers, who "
                               "are left out of its groups")
    return able


def _divide(everyone: Group, attribute: str, speakers: Speakers) -> list[Group]:
    parts: dict[str, list[SpeakerMean]] = {}
    for member in everyone.members:
        value = (speakers.find(member.speaker) or {}).get(attribute)
        if value is not None:
            parts.setdefault(value, []).append(member)
    ordered = sorted(parts.items(), key=lambda part: (-len(part[1]), part[0]))
    return [Group(attribute, value, everyone.metric, tuple(members)) for value, members in ordered]


def _with_interval(group: Group, seed: int) -> Group:
    if not group.comparable:
        return group
    return replace(group, interval=mean_interval(group.improvements, seed))


def _compare(groups: Sequence[Group], seed: int) -> Comparison:
    ordered = tuple(sorted(groups, key=lambda group: -group.mean))
    samples = [group.improvements for group in ordered]
    effect = hedges_g(*samples) if len(samples) == 2 else epsilon_squared(samples)
    return Comparison(ordered[0].attribute, ordered[0].metric, ordered, effect,
                      permutation_p(samples, seed), smallest_p(map(len, samples)))
