"""The evaluation of models on pairs of noisy and clean recordings.

`evaluate` runs each model on each noisy file and scores its waveform and its mel beside the
untouched noisy input and the oracle: the clean mel put through the model's own inversion with the
noisy phase, the upper bound for that model. A clip that a metric refuses is listed with the reason,
and a mean is over the files that no compared system refused. A pair that cannot be compared is
refused with the reason, and the others are scored. Signals lie in temporary files and are processed
part by part: memory does not grow with the length of a recording.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_denoise import metrics
from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import CARD
from gan_denoise.core.atomic_files import check_writable
from gan_denoise.core.json_text import parse_json
from gan_denoise.core.leftovers import temporary_folder
from gan_denoise.core.ray_jobs import Cluster
from gan_denoise.evaluation.estimates import EvaluationError
from gan_denoise.evaluation.notices import refusal_notices, score_notices, signal_notices
from gan_denoise.evaluation.pair_jobs import CLEAN, PairJob, PairScores, on_cluster, on_this_machine
from gan_denoise.evaluation.pair_reader import SignalPair
from gan_denoise.evaluation.results import Evaluation, FileScores, save
from gan_denoise.inference.model_limits import ModelError, read_part
from gan_denoise.metrics.baselines import BEST_GAIN, NOISY, ORACLE, SILENCE

if TYPE_CHECKING:
    from gan_denoise.data.pairs import Pair
    from gan_denoise.inference.enhancer import Enhancer

__all__ = ["Evaluation", "EvaluationError", "FileScores", "evaluate", "save"]

_PACKAGES = ("gan-denoise", "numpy", "scipy", "soxr", "soundfile", "onnxruntime", "pesq", "pystoi")


def evaluate(
    pairs: Sequence[Pair],
    models: Enhancer | Mapping[str, Enhancer] | None = None,
    *,
    trivial: bool = False,
    jobs: int = 2,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    cluster: Cluster | None = None,
) -> Evaluation:
    """Score models on pairs, beside the noisy input and the oracle.

    Files are read at their own rate as the mean of their channels. PESQ and STOI run in separate
    processes, so a script that calls this with `jobs` > 1 needs `if __name__ == "__main__":`.
    Decoded signals and estimates lie in the system's temporary folder (`TMPDIR`) while they are
    scored: about 1 GB for an hour at 16 kHz and one model.

    Args:
        pairs: Noisy and clean files, matched. Small differences in length, rate or channels are
            corrected and reported (see `pair_reader.read_pair`); a pair that cannot be compared is
            refused, and the rest is scored.
        models: A model, several by the name to show, or None to score the noisy input alone.
        trivial: Also score silence, and the noisy input at the constant gain with the best SNR,
            which takes the clean signal to know: a model must beat both.
        jobs: Scoring processes; 1 scores in this process.
        out: Folder for `SYSTEM/NAME.wav` (32-bit float), `clean/NAME.wav`, `scores.csv` and
            `scores.json`.
        progress: Called with (pairs done, pairs in all) after each pair.
        cluster: Where pairs are denoised and scored, each as a whole, by the models in one thread;
            None: on this machine.

    Returns:
        The scores, with the refused pairs and their reasons.

    Raises:
        EvaluationError: When no pair can be scored, when a model's output is not finite or has
            another length (the message names the model), or when `out` would overwrite the input.
        OutputError: When `out` cannot be written.
        SignalError: When the temporary folder is full.
        ProcessDied: When a scoring process ends on the way.
        ClusterError: When the cluster does not answer, or does not see the folders.
    """
    named = _named(models)
    out = None if out is None else Path(out)
    run = _Run(pairs, PairJob(named, trivial, out), progress)
    _check_names(pairs)
    if out is not None:
        _check_out(out, run.job.systems, pairs)
    noises = {pair.name: pair.noise for pair in pairs}
    rows = [replace(row, noise=noises[row.name]) for row in run.scores(jobs, cluster)]
    if not rows:
        raise EvaluationError(
            f"none of {len(pairs)} pairs can be scored: {_first_reasons(run.refused)}")
    evaluation = Evaluation(run.job.systems, tuple(rows), run.notices(rows), _versions(),
                            run.refused, {name: describe_model(model)
                                          for name, model in named.items()})
    if out is not None:
        save(evaluation, out)
    return evaluation


def describe_model(model: Enhancer) -> dict[str, Any]:
    """Return a model's settings with the inversion in use, and its card where it has one.

    Paths of the machine are not part of it: a report is made to be given away.
    """
    found: dict[str, Any] = {"folder": model.folder.name, "settings": dump_config(model.config)}
    card = model.folder / CARD
    if card.is_file():
        try:
            found["card"] = parse_json(read_part(model.folder, CARD))
        except (ValueError, ModelError) as error:
            found["card"] = {"not readable": str(error)}
    return found


class _Run:
    """One evaluation in progress: what is scored, and what was read and refused so far."""

    def __init__(self, pairs: Sequence[Pair], job: PairJob,
                 progress: Callable[[int, int], None] | None):
        self.pairs, self.job, self.progress = pairs, job, progress
        self.signals: dict[str, SignalPair] = {}  # by the pair's name
        self.refused: dict[str, str] = {}  # reason by the pair's name

    def scores(self, jobs: int, cluster: Cluster | None) -> list[FileScores]:
        """Return the scores of every pair and system, in the order of both."""
        with contextlib.ExitStack() as stack:
            if cluster is None:
                temporary = stack.enter_context(temporary_folder("gan-denoise-"))
                jobs = min(jobs, len(self.pairs) * len(self.job.systems))
                scored = on_this_machine(self.pairs, self.job, temporary, jobs)
            else:
                scored = stack.enter_context(on_cluster(self.pairs, self.job, cluster))
            return [row for each in scored for row in self._noted(each)]

    def notices(self, rows: Sequence[FileScores]) -> tuple[str, ...]:
        """Return what a reader must know beside the scores, a line each."""
        missing = [name for name, there in metrics.available().items() if not there]
        return (
            *refusal_notices(self.refused), *map(metrics.install_hint, missing),
            *signal_notices(self.signals, self.job.front_ends, self.job.packages),
            *score_notices(self.job.systems, rows),
        )

    def _noted(self, scored: PairScores) -> list[FileScores]:
        """Note how a pair was read or why it was refused; return its scores."""
        if scored.signals is None:
            self.refused[scored.name] = scored.refused
        else:
            self.signals[scored.name] = scored.signals
        if self.progress is not None:
            self.progress(len(self.signals) + len(self.refused), len(self.pairs))
        return sorted(scored.rows, key=lambda row: self.job.systems.index(row.system))


def _named(models: Enhancer | Mapping[str, Enhancer] | None) -> dict[str, Enhancer]:
    """Return `{name to show: model}`, where no name is one of the other systems'."""
    if models is None:
        return {}
    named = dict(models) if isinstance(models, Mapping) else {models.name: models}
    taken = ("", ".", "..", CLEAN, NOISY, SILENCE, BEST_GAIN)
    for name in named:
        if name in taken or name.startswith(ORACLE) or set(name) & set("/\\"):
            raise EvaluationError(f"'{name}' cannot name a model here", "give it another name")
    return named


def _check_names(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise EvaluationError("no pairs to evaluate")
    twice = [name for name, count in Counter(pair.name for pair in pairs).items() if count > 1]
    if twice:
        raise EvaluationError(f"'{twice[0]}' occurs twice among the pairs",
                              "evaluate one split only")


def _check_out(out: Path, systems: Iterable[str], pairs: Iterable[Pair]) -> None:
    check_writable(out / "scores.csv")
    inputs = {path.resolve() for pair in pairs for path in (pair.noisy, pair.clean)}
    for system in (*systems, CLEAN):
        for pair in pairs:
            if Path(out, system, f"{pair.name}.wav").resolve() in inputs:
                raise EvaluationError(f"{out}: writing there would replace {pair.noisy.parent}",
                                      "give another --out")


def _first_reasons(refused: Mapping[str, str], most: int = 3) -> str:
    more = f"; and {len(refused) - most} more" if len(refused) > most else ""
    return "; ".join(list(refused.values())[:most]) + more


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
