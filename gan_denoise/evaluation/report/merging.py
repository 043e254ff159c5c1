"""Several evaluations of the same recordings as one, with the folders of their waveforms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.evaluation.results import Evaluation, FileScores, read_scores
from gan_denoise.metrics.baselines import BEST_GAIN, NOISY, ORACLE, SILENCE

CLEAN = "clean"  # folder of the references


class ReportError(GanDenoiseError):
    """There is nothing to report, or evaluations that cannot be compared."""


@dataclass(frozen=True)
class Merged:
    """Evaluations of the same recordings, as one.

    Attributes:
        evaluation: The scores of all systems on the recordings that all evaluations have.
        models: Those systems that are models, in the order given.
        waveforms: `{system: folder}` of `NAME.wav`, with `clean`, where there is one.
        left_out: Recordings that not every evaluation has.
    """

    evaluation: Evaluation
    models: tuple[str, ...]
    waveforms: dict[str, Path]
    left_out: tuple[str, ...]

    def file(self, system: str, name: str) -> Path | None:
        """Return the waveform of a system on a recording; None where it was not kept."""
        folder = self.waveforms.get(system)
        path = None if folder is None else folder / f"{name}.wav"
        return path if path is not None and path.is_file() else None


def merge(folders: Sequence[str | Path]) -> Merged:
    """Read evaluations and merge them.

    A model whose name is taken is called `NAME (FOLDER)`. Of systems that no model makes (noisy,
    trivial ones) the first is kept, as is an oracle whose scores another evaluation repeats.

    Args:
        folders: Folders of `evaluate --out`.

    Raises:
        ScoresError: When a folder holds no scores.
        ReportError: When there is no folder, the evaluations share no recording, or they score a
            noisy recording of one name differently, so that it is another recording.
    """
    if not folders:
        raise ReportError("no evaluation to report", "give a folder of evaluate --out")
    paths = [Path(folder) for folder in folders]
    evaluations = [read_scores(path) for path in paths]
    shared = [name for name in evaluations[0].names
              if all(name in set(other.names) for other in evaluations)]
    if not shared:
        raise ReportError("the evaluations share no recording",
                          "evaluate the models on the same folders")
    rows: dict[str, dict[str, FileScores]] = {}
    waveforms: dict[str, Path] = {}
    described = {}
    for path, evaluation in zip(paths, evaluations, strict=True):
        own = _by_system(evaluation)
        if rows:
            _check_same(rows[NOISY], own[NOISY], shared, path)
        _keep_waveforms(waveforms, CLEAN, path / CLEAN)
        for system in evaluation.systems:
            name = _name(system, own[system], rows, shared, path)
            if name is None:
                continue
            rows[name] = {file: replace(row, system=name) for file, row in own[system].items()}
            _keep_waveforms(waveforms, name, path / system)
            if system in evaluation.models:
                described[name] = evaluation.models[system]
    systems = sorted(rows, key=_rank)
    everything = {name for evaluation in evaluations for name in evaluation.names}
    merged = Evaluation(
        tuple(systems), tuple(rows[system][file] for file in shared for system in systems),
        tuple(dict.fromkeys(line for each in evaluations for line in each.notices)),
        evaluations[0].versions,
        {name: why for each in evaluations for name, why in each.refused_pairs.items()}, described)
    return Merged(merged, tuple(name for name in systems if is_model(name)), waveforms,
                  tuple(sorted(everything - set(shared))))


def is_model(system: str) -> bool:
    """Return whether a system is a model: neither the input, nor trivial, nor an oracle."""
    return _rank(system) == 1


def _rank(system: str) -> int:
    """Return the place of a system: noisy, models, trivial ones, oracles."""
    if system == NOISY:
        return 0
    if system in (SILENCE, BEST_GAIN):
        return 2
    return 3 if system.startswith(ORACLE) else 1


def _name(
    system: str, own: dict[str, FileScores], rows: dict[str, dict[str, FileScores]],
    shared: Sequence[str], path: Path,
) -> str | None:
    """Return the name that a system is shown by; None where one before it is the same."""
    if _rank(system) in (0, 2) and system in rows:
        return None
    if _rank(system) == 3:
        known = (table for name, table in rows.items() if _rank(name) == 3)
        if any(_differing(table, own, shared) is None for table in known):
            return None
    name, number = system, 1
    while name in rows:
        name = f"{system} ({path.resolve().name}{'' if number == 1 else f' {number}'})"
        number += 1
    return name


def _by_system(evaluation: Evaluation) -> dict[str, dict[str, FileScores]]:
    tables: dict[str, dict[str, FileScores]] = {system: {} for system in evaluation.systems}
    for row in evaluation.rows:
        tables[row.system][row.name] = row
    return tables


def _keep_waveforms(waveforms: dict[str, Path], system: str, folder: Path) -> None:
    if system not in waveforms and folder.is_dir():
        waveforms[system] = folder


def _check_same(
    known: dict[str, FileScores], own: dict[str, FileScores], shared: Sequence[str], path: Path
) -> None:
    other = _differing(known, own, shared)
    if other is not None:
        raise ReportError(f"{path}: the noisy '{other}' is scored differently than before, so it "
                          "is another recording", "evaluate the models on the same folders")


def _differing(
    one: dict[str, FileScores], other: dict[str, FileScores], names: Sequence[str]
) -> str | None:
    """Return a recording on which two systems differ in a score of the waveform that both have.

    Scores of the mel are left out: they depend on the model's transform.
    """
    for name in names:
        first, second = one[name].scores, other[name].scores
        both = (metric for metric in first.keys() & second.keys() if "mel" not in metric)
        if not all(math.isclose(first[metric], second[metric], rel_tol=1e-4, abs_tol=1e-4)
                   for metric in both):
            return name
    return None
