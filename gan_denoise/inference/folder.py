"""Folders that lose no work: what is done stays done; whatever ends a run, the next goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from gan_denoise.audio import AudioError
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.folder_journal import Journal, digest_of, digest_of_file
from gan_denoise.inference.folder_plan import Item, Plan, plan
from gan_denoise.inference.folder_worker import Order, perform
from gan_denoise.inference.results import FileResult
from gan_denoise.inference.worker_pool import Worker, spread

WORTH_SECONDS = 120.0  # of audio; for less, processes take longer to start than they save
BATCH_SECONDS, BATCH_FILES = 30.0, 16  # short files that a process takes at once


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after everything was stopped; `results` are those of the files that are done."""

    def __init__(self, results: list[FileResult]):
        super().__init__()
        self.results = results


class _Enough(Exception):
    """A file failed, and the rest is not wanted."""


@dataclass
class Tally:
    """How far a run is. Every call of `progress` gets the same object.

    Attributes:
        files: Count of files.
        seconds: Of audio in them.
        files_done: Files that are done, skipped or failed.
        seconds_done: The same in audio, with what is done of the files under way.
        seconds_denoised: Of audio that went through the model in this run.
        passed_over: What looks like a recording and is not taken, by the reason.
        result: The file that came to its end with this call, None between files.
        began: Time of `time.monotonic` when the run began.
    """

    files: int
    seconds: float
    files_done: int = 0
    seconds_done: float = 0.0
    seconds_denoised: float = 0.0
    passed_over: Mapping[str, list[Path]] = field(default_factory=dict)
    result: FileResult | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def speed(self) -> float:
        """Seconds of audio denoised in a second of the run."""
        return self.seconds_denoised / max(time.monotonic() - self.began, 1e-9)

    @property
    def remaining(self) -> float | None:
        """Seconds until the end at this speed, None before there is one."""
        left = max(self.seconds - self.seconds_done, 0.0)
        return left / self.speed if self.seconds_denoised else None


def enhance_folder(
    enhancer: Enhancer,
    inputs: Sequence[str | Path],
    out: str | Path,
    recursive: bool = True,
    *,
    overwrite: bool = False,
    jobs: int = 0,
    residual: str | Path | None = None,
    fail_fast: bool = False,
    dry_run: bool = False,
    shard: tuple[int, int] | None = None,
    progress: Callable[[Tally], None] | None = None,
) -> list[FileResult]:
    """Clean files and folders into one folder: see `Enhancer.enhance_folder`."""
    inputs, out = [Path(item) for item in inputs], Path(out)
    residual = Path(residual) if residual is not None else None
    settled = plan(inputs, out, enhancer.treatment, recursive, residual)
    if settled.treatment != enhancer.treatment:
        enhancer = enhancer.with_treatment(settled.treatment)
    items = settled.items
    if shard is not None:
        number, count = shard
        if not 1 <= number <= count:
            raise AudioError(f"shard {number}/{count}: there are 1/{count} to {count}/{count}")
        items = items[number - 1 :: count]
    run = _Run(enhancer, replace(settled, items=items), overwrite, fail_fast, progress)
    try:
        if dry_run:
            run.preview()
        else:
            run.perform(jobs)
    except _Enough:
        pass
    except KeyboardInterrupt:
        raise Interrupted(run.in_order()) from None
    return run.in_order()


class _Run:
    """One run over a folder: decides, has it done, counts."""

    def __init__(self, enhancer: Enhancer, settled: Plan, overwrite: bool, fail_fast: bool,
                 progress: Callable[[Tally], None] | None):
        self._enhancer, self._items, self._journal = enhancer, settled.items, Journal(settled.out)
        items = settled.items
        self._overwrite, self._fail_fast, self._progress = overwrite, fail_fast, progress
        self._settings = digest_of(enhancer.settings())
        self._results: dict[Path, FileResult] = {}  # by target
        self._seconds = {item.target: item.seconds for item in items}  # that are not counted yet
        self._tally = Tally(len(items), sum(self._seconds.values()),
                            passed_over=settled.passed_over)

    def in_order(self) -> list[FileResult]:
        """Return what there is, in the order of the plan."""
        return [self._results[item.target] for item in self._items if item.target in self._results]

    def preview(self) -> None:
        """Say what would be done."""
        for item in self._items:
            verdict = self._decide(item)
            if isinstance(verdict, Order):
                verdict = verdict.result(status="planned")
            self._tell(item.target, verdict)

    def perform(self, jobs: int) -> None:
        """Do all that is to be done, in this process or in several."""
        for item in self._items:
            if item.refused is not None:
                self._tell(item.target, self._decide(item))
        items = [item for item in self._items if item.refused is None]
        jobs = min(jobs or self._worthwhile(items), len(items))
        self._remove_parts()
        try:
            if jobs > 1:
                threads = max(self._enhancer.threads // jobs, 1)
                spread(_batches(items, jobs), jobs, self._decide,
                       lambda: Worker(self._enhancer, self._journal.out, threads), self._tell)
                return
            for item in items:
                verdict = self._decide(item)
                if isinstance(verdict, Order):
                    tell = partial(self._tell, item.target)
                    verdict = perform(self._enhancer, self._journal, verdict, tell)
                self._tell(item.target, verdict)
        finally:  # a process that died may have left something
            self._remove_parts()

    def _remove_parts(self) -> None:
        self._journal.refresh()
        self._journal.remove_parts()

    def _worthwhile(self, items: Sequence[Item]) -> int:
        return self._enhancer.threads if sum(item.seconds for item in items) > WORTH_SECONDS else 1

    def _decide(self, item: Item) -> FileResult | Order:
        """Return the result of a file that needs no work, or else the order for it."""
        if item.refused is not None:
            return _failed(item, item.refused)
        journal = self._journal
        there = [path for path in item.outputs if os.path.lexists(path)]
        journal.refresh()  # also what other processes and machines have begun meanwhile
        strangers = [path for path in there if not journal.knows(path)]
        if strangers and not self._overwrite:
            return _failed(item, f"{strangers[0]}: exists and was not written by gan-denoise here; "
                                 "--overwrite replaces it")
        entry = journal.entry(item.target)
        try:
            digest = digest_of_file(item.source)
        except OSError as error:
            return _failed(item, f"{item.source}: not readable ({error.strerror or error})")

        def order(reason: str) -> Order:
            return Order(item.source, item.target, item.residual, digest, reason, _header(item))

        if self._overwrite:
            return order("overwrite")
        if entry is None:
            return order("not finished" if journal.knows(item.target) else "new")
        if entry.input is None:
            return order("not finished")
        if entry.input != digest:
            return order("the input changed")
        if entry.settings != self._settings:
            return order("model or settings changed")
        if not journal.whole(entry, item.outputs):
            return order("an output is missing or has another size")
        return order("").result(**{**entry.figures, "status": "skipped", "reason": None})

    def _tell(self, target: Path, event: float | FileResult) -> None:
        """Count seconds done of a file, or its result."""
        tally, left = self._tally, self._seconds[target]
        if isinstance(event, FileResult):
            self._results[target] = tally.result = event
            tally.files_done += 1
            seconds = left
        else:
            tally.result = None
            seconds = min(event, left)
        self._seconds[target] -= seconds
        tally.seconds_done += seconds
        if tally.result is None or tally.result.status == "done":
            tally.seconds_denoised += seconds
        if self._progress is not None:
            self._progress(tally)
        if self._fail_fast and tally.result is not None and tally.result.status == "failed":
            raise _Enough


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


def _header(item: Item) -> dict[str, Any]:
    if item.info is None:
        return {}
    return {"seconds": item.seconds, "sample_rate": item.info.sample_rate,
            "channels": item.info.channels}


def _failed(item: Item, error: str) -> FileResult:
    return FileResult(item.source, item.target, status="failed", error=error, **_header(item))
