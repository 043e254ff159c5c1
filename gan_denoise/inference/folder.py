"""Files and folders denoised into one folder, by one process, several, or a Ray cluster.

What is done is in the folder's journal, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gan_denoise.core.locations import is_remote, location
from gan_denoise.inference.file_task import FileTask, run_task
from gan_denoise.inference.folder_decision import Decider
from gan_denoise.inference.folder_journal import Journal, digest_of
from gan_denoise.inference.folder_plan import FolderPlan, Item, plan_folder
from gan_denoise.inference.ray_actors import Actors, actors_on
from gan_denoise.inference.ray_workers import RayWorkers
from gan_denoise.inference.results import FileResult, FolderProgress
from gan_denoise.inference.worker_pool import AnyWorker, Worker, WorkerPool

if TYPE_CHECKING:
    from gan_denoise.inference.enhancer import Enhancer

WORTH_SECONDS = 120.0  # of audio; for less, processes take longer to start than they save
WORTH_FILES = 16  # of unknown length, for which the same is assumed
BATCH_SECONDS, BATCH_FILES = 30.0, 16  # short files that a process takes at once


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after everything was stopped; `results` are those of the files that are done."""

    def __init__(self, results: list[FileResult]):
        super().__init__()
        self.results = results


class _FirstFailure(Exception):
    """A file failed, and the caller wants no further ones."""


@dataclass(frozen=True)
class FolderOptions:
    """How a run over a folder is made; what is written is the same but for `residual`.

    Attributes:
        recursive: Whether sub-folders are searched.
        overwrite: Do everything again, and replace also what was not written here.
        jobs: Number of processes; 0: one per thread where there is enough to do, or one per CPU of
            the cluster.
        residual: Folder for what is removed, or the file for it; None: none.
        fail_fast: Whether the first failure ends the run; files without a result are left out.
        dry_run: Only return what would be done.
        shard: (i, n): only the i-th of n equal shares of the files, counted from 1.
        ray: Address of a Ray cluster that does it, see `core.ray_cluster.connect`, or actors of
            one, which may have begun before the model was loaded; None: this machine alone does.
    """

    recursive: bool = True
    overwrite: bool = False
    jobs: int = 0
    residual: str | Path | None = None
    fail_fast: bool = False
    dry_run: bool = False
    shard: tuple[int, int] | None = None
    ray: str | Actors | None = None


def enhance_folder(
    enhancer: Enhancer,
    inputs: Sequence[str | Path],
    out: str | Path,
    options: FolderOptions | None = None,
    progress: Callable[[FolderProgress], None] | None = None,
) -> list[FileResult]:
    """Denoise files and folders into one folder that mirrors their trees.

    A file that fails is reported in its result, and the rest goes on. What an earlier run did is
    skipped, by the content of the input, the model and the settings. The folder's journal knows
    what was written here; a file that it does not know is not replaced.

    Args:
        enhancer: The model with its options.
        inputs: Files and folders, or their addresses (`s3://bucket/folder`). A recording at an
            address is fetched for its own work alone; its version in the store says whether it
            changed.
        out: Output folder, or its address, where a file appears when it is whole; or the output
            file, where there is one input file and the name has the suffix of an audio file.
        options: How the run is made; None: the defaults.
        progress: Called as the work goes on, always with the same object.

    Returns:
        A result for each file, in the order of the inputs and their names.

    Raises:
        AudioError: Before any work, when nothing is found, two inputs would write one output, or a
            folder is input and output at once.
        LocationError: When an address cannot be reached before any work; later it is a failure of
            the file in work.
        ModelError: When a process cannot load the model.
        ClusterError: When the Ray cluster cannot be reached, or does not see the output folder.
        Interrupted: On Ctrl-C; has the results so far.
    """
    options = options or FolderOptions()
    if isinstance(options.ray, str) and not options.dry_run:  # before the work of planning
        with actors_on(options.ray, options.jobs) as actors:
            return _enhance_folder(enhancer, inputs, out, replace(options, ray=actors), progress)
    return _enhance_folder(enhancer, inputs, out, options, progress)


def _enhance_folder(
    enhancer: Enhancer, inputs: Sequence[str | Path], out: str | Path, options: FolderOptions,
    progress: Callable[[FolderProgress], None] | None,
) -> list[FileResult]:
    residual = location(options.residual) if options.residual is not None else None
    plan = plan_folder([location(item) for item in inputs], location(out), enhancer.options,
                       options.recursive, residual, options.shard)
    run = _Run(enhancer.with_options(plan.options), plan, options, progress)
    try:
        if options.dry_run:
            run.preview()
        else:
            run.perform()
    except _FirstFailure:
        pass
    except KeyboardInterrupt:
        raise Interrupted(run.in_order()) from None
    return run.in_order()


class _Run:
    """One run over a folder: has its files done, and counts."""

    def __init__(self, enhancer: Enhancer, plan: FolderPlan, options: FolderOptions,
                 progress: Callable[[FolderProgress], None] | None):
        self._enhancer, self._items, self._options = enhancer, plan.items, options
        share = "-of-".join(map(str, options.shard or ()))
        self._journal = Journal(plan.out, share)
        self._journal.refresh()
        self._decide = Decider(self._journal, digest_of(enhancer.settings()), options.overwrite,
                               plan.files)
        self._results: dict[Path, FileResult] = {}  # by target
        self._seconds = {item.target: item.seconds for item in plan.items}  # not counted yet
        self._unknown = {item.target: 0.0 for item in plan.items  # counted of those at addresses
                         if item.info is None and item.refused is None}
        self._callback = progress
        self._progress = FolderProgress(len(plan.items), sum(self._seconds.values()),
                                        all_known=not self._unknown, passed_over=plan.passed_over)

    def in_order(self) -> list[FileResult]:
        """Return what there is, in the order of the plan."""
        return [self._results[item.target] for item in self._items if item.target in self._results]

    def preview(self) -> None:
        """Record what would be done."""
        for item in self._items:
            decision = self._decide(item)
            if isinstance(decision, FileTask):
                decision = decision.result(status="planned")
            self._record(item.target, decision)

    def perform(self) -> None:
        """Do all that is to be done, in this process, in several, or on a Ray cluster."""
        for item in self._items:
            if item.refused is not None:
                self._record(item.target, self._decide(item))
        items = [item for item in self._items if item.refused is None]
        if items and is_remote(self._journal.out):
            self._journal.mark()  # a store that cannot be written is one error, not one a file
        self._remove_parts()
        try:
            if isinstance(self._options.ray, Actors):
                self._perform_on(self._options.ray, items)
                return
            jobs = min(self._options.jobs or self._worthwhile_jobs(items), len(items))
            if jobs > 1:
                threads = max(self._enhancer.threads // jobs, 1)
                self._perform_by(
                    jobs, lambda: Worker(self._enhancer, self._journal, threads), items)
            else:
                self._perform_here(items)
        finally:  # a process that died may have left temporary files
            self._remove_parts()

    def _perform_on(self, actors: Actors, items: Sequence[Item]) -> None:
        jobs = min(actors.count, len(items))
        actors.keep(jobs)
        workers = RayWorkers(actors, self._enhancer, self._journal)
        self._perform_by(jobs, workers.start, items)

    def _perform_by(
        self, jobs: int, start: Callable[[], AnyWorker], items: Sequence[Item]
    ) -> None:
        WorkerPool(jobs, self._decide, start).run(_batches(items, jobs), self._record)

    def _perform_here(self, items: Sequence[Item]) -> None:
        for item in items:
            result = self._decide(item)
            if isinstance(result, FileTask):
                record = partial(self._record, item.target)
                result = run_task(self._enhancer, self._journal, result, record)
            self._record(item.target, result)

    def _remove_parts(self) -> None:
        if not is_remote(self._journal.out):  # where no process leaves any
            self._journal.refresh()
        self._journal.remove_parts()

    def _worthwhile_jobs(self, items: Sequence[Item]) -> int:
        unknown = sum(item.target in self._unknown for item in items)
        worth = sum(item.seconds for item in items) > WORTH_SECONDS or unknown > WORTH_FILES
        return self._enhancer.threads if worth else 1

    def _record(self, target: Path, event: float | FileResult) -> None:
        """Count seconds done of a file, or its result.

        Raises:
            _FirstFailure: When the file failed and that is to end the run.
        """
        progress = self._progress
        if target in self._unknown:
            self._lengthen(target, event)
        left = self._seconds[target]
        if isinstance(event, FileResult):
            self._results[target] = progress.result = event
            if event.status in ("done", "skipped"):
                self._journal.settle(target)
            progress.files_done += 1
            seconds = left
        else:
            progress.result = None
            seconds = min(event, left)
        self._seconds[target] -= seconds
        progress.seconds_done += seconds
        if progress.result is None or progress.result.status == "done":
            progress.seconds_denoised += seconds
        if self._callback is not None:
            self._callback(progress)
        failed = progress.result is not None and progress.result.status == "failed"
        if failed and self._options.fail_fast:
            raise _FirstFailure

    def _lengthen(self, target: Path, event: float | FileResult) -> None:
        """Take from an event how long a recording is, as far as that is known yet."""
        known = self._unknown[target]
        further = event.seconds - known if isinstance(event, FileResult) else event
        self._unknown[target] += further
        self._seconds[target] += further
        self._progress.seconds += further


def _batches(items: Sequence[Item], jobs: int) -> Iterator[list[Item]]:
    """Group short files, the longest first: the last ones are short, and all end together."""
    most = max(min(BATCH_FILES, len(items) // (4 * jobs)), 1)
    batch: list[Item] = []
    seconds = 0.0
    for item in sorted(items, key=lambda item: -item.seconds):
        if batch and (seconds + item.seconds > BATCH_SECONDS or len(batch) >= most):
            yield batch
            batch, seconds = [], 0.0
        batch.append(item)
        seconds += item.seconds
    if batch:
        yield batch
