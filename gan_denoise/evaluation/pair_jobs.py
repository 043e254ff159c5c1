"""The work on one pair of an evaluation, and who does it: this machine, or a Ray cluster.

On this machine the networks run here, one pair at a time, and processes score what they made. On a
cluster a pair is denoised and scored as a whole by a worker that holds the models.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from gan_denoise import metrics
from gan_denoise.audio import AudioError
from gan_denoise.audio.writer import Writer
from gan_denoise.config.artifacts import INFERENCE_PARTS
from gan_denoise.core.leftovers import temporary_folder
from gan_denoise.core.processes import ProcessDied, ProcessPool
from gan_denoise.core.ray_jobs import Cluster
from gan_denoise.evaluation.estimates import (
    FrontEnd,
    PairEstimates,
    estimate_pair,
    shared_front_ends,
)
from gan_denoise.evaluation.pair_reader import PairMismatchError, SignalPair, read_pair
from gan_denoise.evaluation.results import FileScores
from gan_denoise.evaluation.scoring import score_system
from gan_denoise.inference.worker_setup import load_setup, setup_of
from gan_denoise.metrics.baselines import BEST_GAIN, NOISY, SILENCE
from gan_denoise.metrics.signal_files import blocks

if TYPE_CHECKING:
    from gan_denoise.data.pairs import Pair
    from gan_denoise.inference.enhancer import Enhancer

CLEAN = "clean"  # folder of the references in `out`
_WAITING = 2**26  # samples of pairs that wait for their scores; about an hour at 16 kHz


@dataclass(frozen=True)
class PairJob:
    """What is done with each pair.

    Attributes:
        models: `{system: model}`.
        trivial: Whether to score silence and the best constant gain too.
        out: Folder for the waveforms; None: they are not kept.
    """

    models: Mapping[str, Enhancer]
    trivial: bool
    out: Path | None

    @functools.cached_property
    def front_ends(self) -> dict[str, FrontEnd]:
        """Transform and inversion of each model."""
        return shared_front_ends(self.models)

    @functools.cached_property
    def packages(self) -> tuple[str, ...]:
        """The installed ones of `pesq` and `pystoi`."""
        return tuple(name for name, there in metrics.available().items() if there)

    @property
    def systems(self) -> tuple[str, ...]:
        """All that is scored, in the order to show."""
        oracles = dict.fromkeys(front_end.oracle for front_end in self.front_ends.values())
        return (NOISY, *self.models, *((SILENCE, BEST_GAIN) if self.trivial else ()), *oracles)

    def estimates(self, pair: Pair, folder: Path) -> tuple[SignalPair, PairEstimates]:
        """Read a pair and run the models; the signals lie in a folder that is made for them.

        Raises:
            AudioError, PairMismatchError: When the pair cannot be read or compared.
            EvaluationError: When a model's output is not finite or has another length.
        """
        folder.mkdir()
        signals = read_pair(pair.noisy, pair.clean, folder)
        estimates = estimate_pair(pair, signals, folder, self.models, self.front_ends,
                                  self.packages, self.trivial)
        if self.out is not None:
            _write_estimates(self.out, estimates)
        return signals, estimates


@dataclass(frozen=True)
class PairScores:
    """What came of a pair.

    Attributes:
        name: Its name.
        signals: How it was read; None where it was refused.
        rows: The scores of each system.
        refused: Why it was refused.
    """

    name: str
    signals: SignalPair | None
    rows: Sequence[FileScores] = ()
    refused: str = ""


def _write_estimates(out: Path, estimates: PairEstimates) -> None:
    """Write each system's waveform as `SYSTEM/NAME.wav`, and the clean one as `clean/NAME.wav`."""
    for system, signal in {CLEAN: estimates.clean, **estimates.signals}.items():
        path = Path(out, system, f"{estimates.name}.wav")
        with Writer(path, estimates.sample_rate, 1, "WAV", "FLOAT") as writer:
            for block in blocks(signal):
                writer.write(block)


# ---- On this machine ---------------------------------------------------------------------------
def on_this_machine(
    pairs: Sequence[Pair], job: PairJob, temporary: Path, jobs: int
) -> Iterator[PairScores]:
    """Yield what came of each pair; those that are refused come before others that wait.

    Args:
        pairs: The pairs.
        job: What is done with each.
        temporary: Folder for signals while they are scored.
        jobs: Scoring processes; 1 scores in this process.
    """
    scorer = _score_here if jobs <= 1 else None
    with contextlib.ExitStack() as stack:
        if scorer is None:
            pool = stack.enter_context(
                ProcessPool(jobs, "scoring", "jobs=1 scores without processes"))
            scorer = functools.partial(_score_in, pool)
        waiting: deque[tuple[SignalPair, PairEstimates, Iterable[FileScores]]] = deque()

        def oldest() -> PairScores:
            signals, estimates, scores = waiting.popleft()
            rows = list(scores)
            shutil.rmtree(estimates.folder)
            return PairScores(estimates.name, signals, rows)

        for number, pair in enumerate(pairs):
            folder = temporary / str(number)
            try:
                signals, estimates = job.estimates(pair, folder)
            except (AudioError, PairMismatchError) as error:
                shutil.rmtree(folder)
                yield PairScores(pair.name, None, refused=str(error))
                continue
            waiting.append((signals, estimates, scorer(estimates)))
            # Only a few wait on the disk.
            while (len(waiting) > (2 * jobs if jobs > 1 else 0)
                   or sum(len(each.clean) for _, each, _ in waiting) > _WAITING):
                yield oldest()
        while waiting:
            yield oldest()


def _score_here(estimates: PairEstimates) -> Iterable[FileScores]:
    return [score_system(estimates, system) for system in estimates.signals]


def _score_in(pool: ProcessPool, estimates: PairEstimates) -> Iterable[FileScores]:
    return pool.map(score_system, repeat(estimates), estimates.signals)


# ---- On a cluster ------------------------------------------------------------------------------
@contextlib.contextmanager
def on_cluster(
    pairs: Sequence[Pair], job: PairJob, cluster: Cluster
) -> Iterator[Iterator[PairScores]]:
    """Give what comes of each pair, in order; one on which two workers died is refused.

    Raises:
        ClusterError: When the cluster does not answer, or does not see the folders.
    """
    models = {name: ({part: (model.folder / part).read_bytes() for part in INFERENCE_PARTS},
                     setup_of(model, threads=1)) for name, model in job.models.items()}
    with cluster.pool(lambda pair: f"on {pair.noisy}", job.out,
                      {path.parent for pair in pairs for path in (pair.noisy, pair.clean)}) as pool:
        yield pool.map(_ClusterJob(models, job.trivial, job.out), pairs, lost=_lost)


def _lost(pair: Pair, error: ProcessDied) -> PairScores:
    return PairScores(pair.name, None, refused=str(error))


class _ClusterJob:
    """A `PairJob` as it travels to a worker, which loads the models once."""

    def __init__(self, models: Mapping[str, tuple[Mapping[str, bytes], Mapping[str, object]]],
                 trivial: bool, out: Path | None):
        self._models, self._trivial, self._out = models, trivial, out

    def __call__(self, pair: Pair) -> PairScores:
        with temporary_folder("gan-denoise-") as temporary:
            try:
                signals, estimates = self._job.estimates(pair, Path(temporary, "pair"))
            except (AudioError, PairMismatchError) as error:
                return PairScores(pair.name, None, refused=str(error))
            return PairScores(pair.name, signals, list(_score_here(estimates)))

    @functools.cached_property
    def _job(self) -> PairJob:
        loaded = {}
        for name, (parts, setup) in self._models.items():
            with temporary_folder("gan-denoise-model-") as folder:
                for part, content in parts.items():
                    Path(folder, part).write_bytes(content)
                loaded[name] = load_setup(setup, Path(folder))
        return PairJob(loaded, self._trivial, self._out)
