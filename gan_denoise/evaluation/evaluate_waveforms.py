"""The evaluation of models on pairs of noisy and clean recordings.

`evaluate` runs each model on each noisy file and scores its waveform and its mel beside the
untouched noisy input and the oracle: the clean mel put through the model's own inversion with the
noisy phase, the upper bound for that model. A clip that a metric refuses is listed with the reason,
and a mean is over the files that no compared system refused. A pair that cannot be compared is
refused with the reason, and the others are scored. Signals lie in temporary files and are processed
part by part: memory does not grow with the length of a recording.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_denoise import metrics
from gan_denoise.audio import AudioError
from gan_denoise.audio.writer import Writer
from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import CARD
from gan_denoise.core.atomic_files import check_writable
from gan_denoise.core.processes import ProcessPool
from gan_denoise.evaluation.estimates import (
    EvaluationError,
    PairEstimates,
    estimate_pair,
    shared_front_ends,
)
from gan_denoise.evaluation.notices import refusal_notices, score_notices, signal_notices
from gan_denoise.evaluation.pair_reader import PairMismatchError, SignalPair, read_pair
from gan_denoise.evaluation.results import Evaluation, FileScores, save
from gan_denoise.evaluation.scoring import score_system
from gan_denoise.metrics.baselines import BEST_GAIN, NOISY, ORACLE, SILENCE
from gan_denoise.metrics.signal_files import blocks

if TYPE_CHECKING:
    from gan_denoise.data.pairs import Pair
    from gan_denoise.inference.enhancer import Enhancer

__all__ = ["Evaluation", "EvaluationError", "FileScores", "evaluate", "save"]

_PACKAGES = ("gan-denoise", "numpy", "scipy", "soxr", "soundfile", "onnxruntime", "pesq", "pystoi")
CLEAN = "clean"  # folder of the references in `out`
_WAITING = 2**26  # samples of pairs that wait for their scores; about an hour at 16 kHz


def evaluate(
    pairs: Sequence[Pair],
    models: Enhancer | Mapping[str, Enhancer] | None = None,
    *,
    trivial: bool = False,
    jobs: int = 2,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
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

    Returns:
        The scores, with the refused pairs and their reasons.

    Raises:
        EvaluationError: When no pair can be scored, when a model's output is not finite or has
            another length (the message names the model), or when `out` would overwrite the input.
        OutputError: When `out` cannot be written.
        SignalError: When the temporary folder is full.
        ProcessDied: When a scoring process ends on the way.
    """
    named = _named(models)
    out = None if out is None else Path(out)
    run = _Run(pairs, named, trivial, out, progress)
    _check_names(pairs)
    if out is not None:
        _check_out(out, run.systems, pairs)
    noises = {pair.name: pair.noise for pair in pairs}
    rows = [replace(row, noise=noises[row.name]) for row in run.scores(jobs)]
    if not rows:
        raise EvaluationError(
            f"none of {len(pairs)} pairs can be scored: {_first_reasons(run.refused)}")
    notices = [
        *refusal_notices(run.refused),
        *(metrics.install_hint(name) for name, there in run.installed.items() if not there),
        *signal_notices(run.signals, run.front_ends, run.packages),
        *score_notices(run.systems, rows),
    ]
    evaluation = Evaluation(run.systems, tuple(rows), tuple(notices), _versions(), run.refused,
                            {name: describe_model(model) for name, model in named.items()})
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
            found["card"] = json.loads(card.read_text(encoding="utf-8"))
        except ValueError as error:
            found["card"] = {"not readable": str(error)}
    return found


class _Run:
    """One evaluation in progress: what is scored, and what was read and refused so far."""

    def __init__(
        self, pairs: Sequence[Pair], models: Mapping[str, Enhancer], trivial: bool,
        out: Path | None, progress: Callable[[int, int], None] | None,
    ):
        self.pairs, self.models, self.trivial = pairs, models, trivial
        self.out, self.progress = out, progress
        self.front_ends = shared_front_ends(models)
        self.systems = (
            NOISY, *models, *((SILENCE, BEST_GAIN) if trivial else ()),
            *dict.fromkeys(front_end.oracle for front_end in self.front_ends.values()),
        )
        self.installed = metrics.available()
        self.packages = tuple(name for name, there in self.installed.items() if there)
        self.signals: dict[str, SignalPair] = {}  # by the pair's name
        self.refused: dict[str, str] = {}  # reason by the pair's name
        self._scored = 0

    def scores(self, jobs: int) -> list[FileScores]:
        """Return the scores of every pair and system, in the order of both."""
        rows: list[FileScores] = []
        jobs = min(jobs, len(self.pairs) * len(self.systems))
        with tempfile.TemporaryDirectory(prefix="gan-denoise-") as temporary:
            for estimates, scored in _scored(self._estimated(Path(temporary)), jobs):
                shutil.rmtree(estimates.folder)
                rows += sorted(scored, key=lambda row: self.systems.index(row.system))
                self._scored += 1
                self._report()
        return rows

    def _estimated(self, temporary: Path) -> Iterator[PairEstimates]:
        """Yield the signals of all systems, pair by pair; note the pairs that are refused."""
        for number, pair in enumerate(self.pairs):
            folder = temporary / str(number)
            folder.mkdir()
            try:
                signals = read_pair(pair.noisy, pair.clean, folder)
            except (AudioError, PairMismatchError) as error:
                self.refused[pair.name] = str(error)
                shutil.rmtree(folder)
                self._report()
                continue
            self.signals[pair.name] = signals
            estimates = estimate_pair(
                pair, signals, folder, self.models, self.front_ends, self.packages, self.trivial)
            if self.out is not None:
                _write_estimates(self.out, estimates)
            yield estimates

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(self._scored + len(self.refused), len(self.pairs))


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


def _write_estimates(out: Path, estimates: PairEstimates) -> None:
    """Write each system's waveform as `SYSTEM/NAME.wav`, and the clean one as `clean/NAME.wav`."""
    for system, signal in {CLEAN: estimates.clean, **estimates.signals}.items():
        path = Path(out, system, f"{estimates.name}.wav")
        with Writer(path, estimates.sample_rate, 1, "WAV", "FLOAT") as writer:
            for block in blocks(signal):
                writer.write(block)


def _scored(
    estimated: Iterable[PairEstimates], jobs: int
) -> Iterator[tuple[PairEstimates, list[FileScores]]]:
    """Score pairs in order, in processes where jobs > 1, with only a few waiting on the disk."""
    if jobs <= 1:
        for estimates in estimated:
            yield estimates, [score_system(estimates, system) for system in estimates.signals]
        return
    with ProcessPool(jobs, "scoring", "jobs=1 scores without processes") as pool:
        waiting: deque[tuple[PairEstimates, Iterator[FileScores]]] = deque()

        def oldest() -> tuple[PairEstimates, list[FileScores]]:
            estimates, scores = waiting.popleft()
            return estimates, list(scores)

        for estimates in estimated:
            scores = pool.map(score_system, repeat(estimates), estimates.signals)
            waiting.append((estimates, scores))
            while len(waiting) > 2 * jobs or sum(len(e.clean) for e, _ in waiting) > _WAITING:
                yield oldest()
        while waiting:
            yield oldest()


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
