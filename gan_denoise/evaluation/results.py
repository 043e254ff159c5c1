"""The result of an evaluation: the scores of each file and system, their means, CSV and JSON.

A mean is over the files that no compared system refused; their number is part of the result. Where
the noisy file equals the clean one, its SNR is infinite: such a file stays in the rows, and is left
out of the means of the metrics that are infinite for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.checksums import DamagedError, sealed, unsealed
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.json_text import parse_json
from gan_denoise.core.tables import write_csv
from gan_denoise.metrics import METRICS
from gan_denoise.metrics.baselines import NOISY, SILENCE

CONFIDENCE = 0.95  # level of the margins
RESAMPLER = "soxr HQ"
FORMAT_VERSION = 1  # of scores.json
_SNR_VALUES = 8  # more distinct SNRs than this are put in bins
_SNR_BIN = 5.0  # dB, width of a bin
_EXACT, _ORTHOGONAL = "infinite: equal to the clean", "minus infinite"  # notes of scores.json


class ScoresError(GanDenoiseError):
    """A file holds no scores of an evaluation."""


@dataclass(frozen=True)
class FileScores:
    """The scores of one system on one file.

    Attributes:
        name: Name of the pair.
        system: `noisy`, a model's name, a trivial system, or `oracle`.
        snr_db: SNR of the mixture in dB; None where it is unknown.
        seconds: Length of the clip.
        sample_rate: Rate of the files in Hz; SNR, SI-SDR and LSD are taken at this rate.
        scores: `{metric: value}`, infinite where the estimate is exact.
        refused: `{metric: reason}` of metrics that could not score this clip.
        lag: Delay behind the clean signal in seconds; None where there is no clear alignment.
        speaker: Name of the speaker; None where it is unknown.
        noise: Kind of the noise; None where it is unknown.
    """

    name: str
    system: str
    snr_db: float | None
    seconds: float
    sample_rate: int
    scores: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    lag: float | None = None
    speaker: str | None = None
    noise: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of all files and systems, and the means over files.

    Attributes:
        systems: Names in the order to show: noisy, the models, trivial systems, the oracle.
        rows: The scores, one for each file and system, file by file.
        notices: Lines that a reader must know: resampling, refusals, delays, missing packages.
        versions: `{package: version}`; None where the package is not installed.
        refused_pairs: `{name: reason}` of pairs that could not be compared; they have no rows.
        models: `{system: description}` of the models: `settings` (YAML) and `card` (the values of
            the model card), as far as they are known.
    """

    systems: tuple[str, ...]
    rows: tuple[FileScores, ...]
    notices: tuple[str, ...] = ()
    versions: dict[str, str | None] = field(default_factory=dict)
    refused_pairs: dict[str, str] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the files."""
        return list(dict.fromkeys(row.name for row in self.rows))

    @property
    def columns(self) -> list[str]:
        """Metrics that scored or refused a clip, in the order of `METRICS`."""
        seen = {name for row in self.rows for name in (*row.scores, *row.refused)}
        return [name for name in METRICS if name in seen]

    def common(self, metric: str, names: Iterable[str] | None = None) -> list[str]:
        """Return the files over which this metric's means are taken, from `names` or from all.

        These are the files that it scored for every system and whose noisy input has no infinite
        score. The system `silence` does not count here: most metrics refuse it.
        """
        tables = [self._scores[system] for system in self.systems if system != SILENCE]
        names = self.names if names is None else names
        scored = [name for name in names if all(metric in table.get(name, ()) for table in tables)]
        return [name for name in scored if self._scores[NOISY][name][metric] != math.inf]

    def values(self, system: str, metric: str, names: Iterable[str] | None = None) -> np.ndarray:
        """Return a system's scores over `common(metric, names)`, `[files]`."""
        table = self._scores[system]
        scored = [table[name] for name in self.common(metric, names)]
        return np.array([row[metric] for row in scored if metric in row], np.float64)

    def mean(self, system: str, metric: str, names: Iterable[str] | None = None) -> float | None:
        """Return the mean over `common(metric, names)`; None where there is no such file."""
        return _average(self.values(system, metric, names), np.mean)

    def median(self, system: str, metric: str, names: Iterable[str] | None = None) -> float | None:
        """Return the median over `common(metric, names)`; None where there is no such file."""
        return _average(self.values(system, metric, names), np.median)

    def change(self, system: str, metric: str, names: Iterable[str] | None = None) -> float | None:
        """Return the system's mean minus the noisy input's, in the unit of the metric.

        Its sign says which is higher, not which is better: a negative change of LSD or MSE is an
        improvement (`Metric.higher_is_better`).
        """
        after, before = self.mean(system, metric, names), self.mean(NOISY, metric, names)
        return None if after is None or before is None else after - before

    def margin(
        self, system: str, metric: str, names: Iterable[str] | None = None
    ) -> float | None:
        """Return half the width of the 95 % confidence interval of `change`.

        By Student's t over the files' changes, so for files and speakers like these. None for fewer
        than two files, or where a change is infinite.
        """
        scores, noisy = (self.values(s, metric, names) for s in (system, NOISY))
        if len(scores) != len(noisy) or len(scores) < 2:
            return None
        if not (np.isfinite(scores).all() and np.isfinite(noisy).all()):
            return None
        changes = scores - noisy
        quantile = stdtrit(len(changes) - 1, (1 + CONFIDENCE) / 2)
        return float(quantile * np.std(changes, ddof=1) / math.sqrt(len(changes)))

    def by_snr(self) -> dict[str, list[str]]:
        """Return `{label: names}` from low to high SNR; empty where no pair has one."""
        known = {row.name: row.snr_db for row in self.rows if row.snr_db is not None}
        values = sorted(set(known.values()))
        if len(values) <= _SNR_VALUES:
            return {f"{v:g} dB": [name for name in known if known[name] == v] for v in values}
        bins: dict[float, list[str]] = {}
        for name in sorted(known, key=known.__getitem__):
            bins.setdefault(math.floor(known[name] / _SNR_BIN) * _SNR_BIN, []).append(name)
        return {f"{low:g} to {low + _SNR_BIN:g} dB": names for low, names in bins.items()}

    def by_noise(self) -> dict[str, list[str]]:
        """Return `{kind of noise: names}` in alphabetical order; empty where no pair has one."""
        kinds: dict[str, list[str]] = {}
        for name, kind in {row.name: row.noise for row in self.rows if row.noise}.items():
            kinds.setdefault(kind, []).append(name)
        return dict(sorted(kinds.items()))

    @cached_property
    def _scores(self) -> dict[str, dict[str, dict[str, float]]]:
        tables: dict[str, dict[str, dict[str, float]]] = {name: {} for name in self.systems}
        for row in self.rows:
            tables[row.system][row.name] = row.scores
        return tables


def save(evaluation: Evaluation, out: Path) -> None:
    """Write `scores.csv` (a row for each file and system) and `scores.json` into a folder.

    The JSON is strict: it has no NaN and no Infinity.

    Raises:
        OutputError: When they cannot be written.
    """
    text = json.dumps(sealed(to_json(evaluation)), indent=1, allow_nan=False, ensure_ascii=False)
    content = f"{text}\n".encode("utf-8", "backslashreplace")
    write_atomically(out / "scores.json", lambda file: file.write(content))
    columns = ["name", "system", "speaker", "noise", "snr_db", "seconds", "sample_rate",
               *evaluation.columns, "lag_ms", "refused"]
    rows = (
        [row.name, row.system, row.speaker, row.noise, row.snr_db, round(row.seconds, 4),
         row.sample_rate,
         *(row.scores.get(metric) for metric in evaluation.columns),
         None if row.lag is None else round(1000 * row.lag, 3),
         "; ".join(f"{metric}: {reason}" for metric, reason in row.refused.items())]
        for row in evaluation.rows
    )
    write_csv(out / "scores.csv", columns, rows)


def read_scores(path: str | Path) -> Evaluation:
    """Read an evaluation back from its `scores.json`, or from the folder that holds it.

    Raises:
        ScoresError: When it cannot be read, is another kind of file, or has another version.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "scores.json"
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise ScoresError(f"{path}: of version {version}, expected {FORMAT_VERSION}",
                              "evaluate again")
        content = unsealed(content, path)
        rows = tuple(_row_from_json(row) for row in content["rows"])
        evaluation = Evaluation(tuple(content["systems"]), rows, tuple(content["notices"]),
                                content["versions"], content.get("refused_pairs", {}),
                                content.get("models", {}))
    except OSError as error:
        raise ScoresError(f"{path}: cannot be read ({error.strerror})",
                          "give the folder of gan-denoise evaluate --out DIR") from error
    except DamagedError as error:
        raise ScoresError(error.reason, "evaluate again") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ScoresError(
            f"{path}: no scores.json of `gan-denoise evaluate --out DIR` ({error!r})"
        ) from error
    return evaluation


def to_json(evaluation: Evaluation) -> dict[str, object]:
    """Return everything as JSON values; an infinite score is null, with a note beside it.

    The keys are those of `scores.json`; "improvement" is `Evaluation.change`, whose sign is not
    turned for metrics where lower is better.
    """
    return {
        "format_version": FORMAT_VERSION,
        "systems": list(evaluation.systems),
        "files": len(evaluation.names),
        "versions": evaluation.versions,
        "resampler": RESAMPLER,
        "notices": list(evaluation.notices),
        "refused_pairs": evaluation.refused_pairs,
        "models": evaluation.models,
        "metrics": {name: _metric_to_json(evaluation, name) for name in evaluation.columns},
        "summary": {
            system: {name: _means_to_json(evaluation, system, name) for name in evaluation.columns}
            for system in evaluation.systems
        },
        "by_snr": {
            label: {
                "files": len(names),
                "mean": _table_to_json(evaluation, evaluation.mean, names),
                "margin": _table_to_json(evaluation, evaluation.margin, names),
            }
            for label, names in evaluation.by_snr().items()
        },
        "rows": [_row_to_json(row) for row in evaluation.rows],
    }


def _metric_to_json(evaluation: Evaluation, name: str) -> dict[str, object]:
    return {
        "unit": METRICS[name].unit,
        "higher_is_better": METRICS[name].higher_is_better,
        "definition": METRICS[name].definition,
        "files_in_mean": len(evaluation.common(name)),
        "files_refused": {
            system: sum(name in row.refused for row in evaluation.rows if row.system == system)
            for system in evaluation.systems
        },
    }


def _means_to_json(evaluation: Evaluation, system: str, metric: str) -> dict[str, object]:
    mean = evaluation.mean(system, metric)
    return {
        "mean": _number(mean),
        "median": _number(evaluation.median(system, metric)),
        "improvement": _number(evaluation.change(system, metric)),
        "margin": _number(evaluation.margin(system, metric)),
        **_note(mean),
    }


def _table_to_json(
    evaluation: Evaluation,
    figure: Callable[[str, str, Iterable[str] | None], float | None],
    names: Iterable[str],
) -> dict[str, dict[str, float | None]]:
    """Return a figure of some files as `{system: {metric: value}}`."""
    return {
        system: {metric: _number(figure(system, metric, names)) for metric in evaluation.columns}
        for system in evaluation.systems
    }


def _row_to_json(row: FileScores) -> dict[str, object]:
    return {
        "name": row.name,
        "system": row.system,
        "speaker": row.speaker,
        "noise": row.noise,
        "snr_db": row.snr_db,
        "seconds": row.seconds,
        "sample_rate": row.sample_rate,
        "scores": {metric: _number(value) for metric, value in row.scores.items()},
        "notes": {
            metric: _note(value)["note"]
            for metric, value in row.scores.items()
            if not math.isfinite(value)
        },
        "refused": row.refused,
        "lag_ms": None if row.lag is None else 1000 * row.lag,
    }


def _average(values: np.ndarray, average: Callable[[np.ndarray], float]) -> float | None:
    """Return the average; None for no values, or where +inf and -inf are among them."""
    if not len(values) or (np.any(values == np.inf) and np.any(values == -np.inf)):
        return None
    return float(average(values))


def _number(value: float | None) -> float | None:
    """Return a finite number, else None: JSON has no infinity and no NaN."""
    return value if value is not None and math.isfinite(value) else None


def _note(value: float | None) -> dict[str, str]:
    if value is None or math.isfinite(value):
        return {}
    return {"note": _EXACT if value > 0 else _ORTHOGONAL}


def _row_from_json(content: dict[str, Any]) -> FileScores:
    """Return a row of `to_json`; where a score is null, its note says which infinity it is."""
    infinite = {_EXACT: math.inf, _ORTHOGONAL: -math.inf}
    lag = content["lag_ms"]
    return FileScores(
        content["name"], content["system"], content["snr_db"], content["seconds"],
        content["sample_rate"],
        {metric: infinite[content["notes"][metric]] if value is None else value
         for metric, value in content["scores"].items()},
        content["refused"], None if lag is None else lag / 1000, content.get("speaker"),
        content.get("noise"),
    )
