"""The report page on evaluations: what `gan-denoise report` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from gan_denoise.evaluation.report.charts import Chart, Value, chart
from gan_denoise.evaluation.report.examples import PLACES, Example, add_players, choose
from gan_denoise.evaluation.report.merging import Merged, ReportError, is_model, merge
from gan_denoise.evaluation.results import Evaluation
from gan_denoise.metrics import METRICS, NOISY
from gan_denoise.reports.pages import render, write_page
from gan_denoise.reports.players import Track

__all__ = ["PAGE", "ReportError", "write_report"]

PAGE = "report.html"  # in the folder of `evaluate --out`
CHARTED = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr", "lsd", "psnr_mel")
HEADLINES = ("pesq_wb", "pesq_nb", "estoi", "si_sdr", "psnr_mel")
MOST_KINDS = 30  # of noise in a chart; beyond these it shows the ones with the most files
TRIALS = 12  # of the blind test
DECIMALS = {"MOS-LQO": 2, "0..1": 3, "dB": 2, "": 5}


def write_report(folders: Sequence[str | Path], out: str | Path, title: str | None = None) -> Path:
    """Write one page on one or more evaluations; it holds all that it shows and plays.

    Evaluations of 0.2 and before have no clean waveforms and no model cards: their page has
    players of noisy and estimates only, and says what is missing.

    Args:
        folders: Folders of `evaluate --out`, of the same recordings.
        out: The page to write.
        title: Its heading; None for one that names the models.

    Returns:
        Path of the page.

    Raises:
        ScoresError: When a folder holds no scores.
        ReportError: When the evaluations are not of the same recordings.
        OutputError: When the page cannot be written.
    """
    merged = merge(folders)
    rankings, examples = choose(merged)
    add_players(merged, examples)
    names = " and ".join(filter(None, (", ".join(merged.models[:-1]), *merged.models[-1:])))
    title = title or f"Evaluation of {names or 'recordings'}"
    return write_page(out, render(
        "report.html.j2", title=title, date=date.today().isoformat(), evaluation=merged.evaluation,
        models=merged.models, left_out=merged.left_out, lead=_lead(merged),
        summary=_summary(merged.evaluation), definitions=_definitions(merged.evaluation),
        charts=_charts(merged), rankings=rankings, places=PLACES, examples=examples,
        missing=_missing(merged, examples), blind=_blind(merged, examples),
        blind_tracks=(Track("A", ""), Track("B", "")),
        versions=[[name, version or "not installed"]
                  for name, version in merged.evaluation.versions.items()],
        cards={name: _flat(found.get("card", {}))
               for name, found in merged.evaluation.models.items()},
    ))


# ---- Numbers -------------------------------------------------------------------------------------
def _lead(merged: Merged) -> list[str]:
    """Return a sentence on each model: what it changes in the main metrics."""
    evaluation = merged.evaluation
    sentences = []
    for model in merged.models:
        parts = []
        for metric in (name for name in HEADLINES if name in evaluation.columns):
            before, after = evaluation.mean(NOISY, metric), evaluation.mean(model, metric)
            if before is not None and after is not None:
                parts.append(f"{METRICS[metric].label} from {_number(before, metric)} to "
                             f"{_number(after, metric)}{_unit(metric)}")
        if parts:
            sentences.append(f"{model} brings {', '.join(parts)}.")
    return sentences


def _summary(evaluation: Evaluation) -> list[dict[str, object]]:
    """Return a row for each system: its name, kind, and for each metric mean and change."""
    best = {metric: _best(evaluation, metric) for metric in evaluation.columns}
    return [{
        "system": system, "reference": not is_model(system),
        "cells": [_cell(evaluation, system, metric, system in best[metric])
                  for metric in evaluation.columns],
    } for system in evaluation.systems]


def _cell(evaluation: Evaluation, system: str, metric: str, best: bool) -> dict[str, object]:
    mean, change = evaluation.mean(system, metric), evaluation.change(system, metric)
    margin = evaluation.margin(system, metric)
    sign = 1 if METRICS[metric].higher_is_better else -1
    words = "" if system == NOISY or change is None else _number(change, metric, "+")
    if words and margin is not None:
        words += f" ± {_number(margin, metric)}"
    clear = change is not None and margin is not None and abs(change) > margin
    kind = ("good" if sign * change > 0 else "bad") if words and clear else ""
    return {"mean": "–" if mean is None else _number(mean, metric), "change": words, "kind": kind,
            "best": best}


def _best(evaluation: Evaluation, metric: str) -> set[str]:
    """Return the best model of several by the mean."""
    sign = 1 if METRICS[metric].higher_is_better else -1
    means = {system: evaluation.mean(system, metric)
             for system in evaluation.systems if is_model(system)}
    known = {system: sign * mean for system, mean in means.items() if mean is not None}
    if len(known) < 2:
        return set()
    return {system for system, mean in known.items() if mean == max(known.values())}


def _definitions(evaluation: Evaluation) -> list[list[object]]:
    """Return label, unit, which is better, files in the mean and definition of each metric."""
    return [[METRICS[name].label, METRICS[name].unit,
             "higher" if METRICS[name].higher_is_better else "lower",
             len(evaluation.common(name)), METRICS[name].definition]
            for name in evaluation.columns]


# ---- Charts --------------------------------------------------------------------------------------
def _charts(merged: Merged) -> dict[str, list[Chart]]:
    """Return `{heading: charts}` of the models' improvement by SNR and by kind of noise."""
    evaluation = merged.evaluation
    kinds = evaluation.by_noise()
    most = sorted(kinds, key=lambda kind: -len(kinds[kind]))[:MOST_KINDS]
    groups = (
        ("Improvement against input SNR", "input SNR", evaluation.by_snr(), False),
        ("Improvement by kind of noise", "noise", {k: kinds[k] for k in kinds if k in most}, True),
    )
    shown = [name for name in CHARTED if name in evaluation.columns]
    return {
        heading: [_chart(merged, metric, axis, categories, lying) for metric in shown]
        for heading, axis, categories, lying in groups if len(categories) > 1 and merged.models
    }


def _chart(merged: Merged, metric: str, axis: str, categories: Mapping[str, Sequence[str]],
           lying: bool) -> Chart:
    values = {model: [_value(merged.evaluation, model, metric, names)
                      for names in categories.values()] for model in merged.models}
    unit = _unit(metric) or ""
    title = f"{METRICS[metric].label}: improvement{f' in{unit}' if unit else ''}"
    labels = [label.removesuffix(" dB") for label in categories]
    return chart(title, axis if lying else f"{axis} (dB)", labels, values, lying)


def _value(
    evaluation: Evaluation, model: str, metric: str, names: Sequence[str]
) -> Value | None:
    change = evaluation.change(model, metric, names)
    if change is None or abs(change) == float("inf"):
        return None
    sign = 1 if METRICS[metric].higher_is_better else -1
    return Value(sign * change, evaluation.margin(model, metric, names),
                 len(evaluation.common(metric, names)))


# ---- Players -------------------------------------------------------------------------------------
def _missing(merged: Merged, examples: Sequence[Example]) -> str:
    """Return what the players lack, and why; empty where nothing is missing."""
    silent = sum(not example.tracks for example in examples)
    if examples and silent == len(examples):
        return ("There is nothing to hear: the waveforms are not beside scores.json, where "
                "gan-denoise evaluate --out puts them.")
    if examples and "clean" not in merged.waveforms:
        return "The clean recordings were not kept by this older evaluation: evaluate again."
    if silent:
        return f"{silent} of {len(examples)} recordings have no player, to keep this page small."
    return ""


def _blind(merged: Merged, examples: Sequence[Example]) -> dict[str, object]:
    """Return what the blind test compares: systems, and recordings with the tracks of each."""
    compared = (*merged.models, NOISY) if len(merged.models) == 1 else merged.models
    comparable = [example for example in examples if set(compared) <= set(example.systems)]
    return {
        "systems": list(compared), "trials": TRIALS,
        "recordings": [{"id": example.ident, "name": example.name,
                        "tracks": {system: example.systems.index(system) for system in compared}}
                       for example in comparable],
    } if comparable and len(compared) > 1 else {}


# ---- Words ---------------------------------------------------------------------------------------
def _number(value: float, metric: str, sign: str = "") -> str:
    """Return a score, or with the sign "+" a change, as usual for the metric; never -0."""
    text = f"{value:{sign}z.{DECIMALS[METRICS[metric].unit]}f}"
    return text.replace("inf", "∞").replace("-", "\N{MINUS SIGN}")


def _unit(metric: str) -> str:
    return " dB" if METRICS[metric].unit == "dB" else ""


def _flat(card: Mapping[str, object], above: str = "") -> list[tuple[str, str]]:
    """Return a model card as (key, value), nested keys joined by a dot."""
    rows: list[tuple[str, str]] = []
    for key, value in card.items():
        name = f"{above}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name}: ")
        else:
            rows.append((name, f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows
