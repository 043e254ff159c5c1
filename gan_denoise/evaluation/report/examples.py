"""The recordings that a report shows: the best, median and worst by each metric, with players."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gan_denoise.audio import probe, read
from gan_denoise.config.schema import AudioConfig, MelConfig
from gan_denoise.dsp.mel import Mel
from gan_denoise.evaluation.report.merging import CLEAN, Merged
from gan_denoise.metrics import METRICS, NOISY
from gan_denoise.reports.players import Track, make_tracks

SECONDS = 12.0  # of a recording that can be heard
BYTES = 11_000_000  # of all players; examples beyond it have none
# Those of a mel other than its PSNR put files into nearly the same order as the PSNR does.
RANKED_BY = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr", "snr", "lsd", "psnr_mel")
PLACES = ("best", "median", "worst")


@dataclass
class Example:
    """A recording that is shown.

    Attributes:
        name: Name of the recording.
        ident: Id of its player on the page.
        facts: What is known of it: SNR, noise, speaker, length.
        reasons: Why it was chosen: `{(place, label of the metric): models}`.
        tracks: Noisy, the models, clean, as far as they were kept.
        systems: The system of each track.
        seconds: Length of what can be heard; None where it is the whole recording.
    """

    name: str
    ident: str
    facts: str
    reasons: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    tracks: list[Track] = field(default_factory=list)
    systems: list[str] = field(default_factory=list)
    seconds: float | None = None


@dataclass(frozen=True)
class Ranking:
    """The best, median and worst recording of a model by a metric.

    Attributes:
        model: The model.
        metric: Label of the metric.
        places: For each of `PLACES` the example and its improvement in words.
    """

    model: str
    metric: str
    places: tuple[tuple[Example, str], ...]


def choose(merged: Merged) -> tuple[list[Ranking], list[Example]]:
    """Choose recordings by the improvement of each model in each metric of `RANKED_BY`.

    Returns:
        The rankings, and each example once, those with the most reasons first.
    """
    examples: dict[str, Example] = {}
    rankings = []
    for model in merged.models:
        for metric in (name for name in RANKED_BY if name in merged.evaluation.columns):
            ranked = _ranked(merged, model, metric)
            if not ranked:
                continue
            places = []
            for place, (name, gain) in zip(
                PLACES, (ranked[0], ranked[len(ranked) // 2], ranked[-1]), strict=True
            ):
                number = len(examples) + 1
                example = examples.setdefault(
                    name, Example(name, f"example-{number}", _facts(merged, name)))
                reason = (place, METRICS[metric].label)
                example.reasons.setdefault(reason, []).append(model)
                places.append((example, gain))
            rankings.append(Ranking(model, METRICS[metric].label, tuple(places)))
    ordered = sorted(examples.values(),
                     key=lambda example: -sum(map(len, example.reasons.values())))
    return rankings, ordered


def add_players(merged: Merged, examples: Sequence[Example]) -> None:
    """Add the tracks of noisy, the models and clean to the examples, until `BYTES` are used."""
    left = BYTES
    for example in examples:
        files = dict(_files(merged, example.name))
        if NOISY not in files or len(files) < 2:
            continue
        signals, rate = _clip_signals(files, example)
        tracks = make_tracks(signals, rate, _transform(merged, rate))
        left -= sum(len(track.audio) + len(track.picture) for track in tracks)
        if left < 0:
            break
        example.tracks, example.systems = tracks, list(files)


def _ranked(merged: Merged, model: str, metric: str) -> list[tuple[str, str]]:
    """Return (name, improvement in words) from the best to the worst; equals in order of name."""
    evaluation = merged.evaluation
    names = evaluation.common(metric)
    changes = (evaluation.values(model, metric) - evaluation.values(NOISY, metric)).tolist()
    sign = 1 if METRICS[metric].higher_is_better else -1
    ordered = sorted(zip(names, changes, strict=True), key=lambda row: (-sign * row[1], row[0]))
    digits = 3 if METRICS[metric].unit == "0..1" else 2
    return [(name, f"{sign * change:+.{digits}f}") for name, change in ordered]


def _facts(merged: Merged, name: str) -> str:
    row = next(row for row in merged.evaluation.rows if row.name == name)
    known = [f"{row.seconds:.1f} s"]
    if row.snr_db is not None:
        known.append(f"SNR {row.snr_db:g} dB")
    known += [word for word in (row.noise, row.speaker and f"speaker {row.speaker}") if word]
    return ", ".join(known)


def _files(merged: Merged, name: str) -> Iterator[tuple[str, Path]]:
    for system in (NOISY, *merged.models, CLEAN):
        path = merged.file(system, name)
        if path is not None:
            yield system, path


def _clip_signals(files: dict[str, Path], example: Example) -> tuple[dict[str, np.ndarray], int]:
    """Return the first `SECONDS` of each file, `[samples]`, and their rate in Hz."""
    info = probe(next(iter(files.values())))
    rate, length = info.sample_rate, round(SECONDS * info.sample_rate)
    if info.frames > length:
        example.seconds = SECONDS
    return {system: read(path, 0, length)[0].mean(axis=0) for system, path in files.items()}, rate


def _transform(merged: Merged, sample_rate: int) -> Mel:
    """Return the mel of the pictures: 80 bands to half the recordings' rate, at most 16 kHz."""
    rate = min(sample_rate, 32000)
    size = 2 ** round(np.log2(0.032 * rate))
    return Mel(AudioConfig(sample_rate=rate),
               MelConfig(n_fft=size, win_length=size, hop_length=size // 4))
