"""What a recording costs on one core of this machine, measured.

All figures are CPU seconds of one thread: other programs on the machine change them less than
seconds on the clock. `simulate_cluster` reckons with them.
"""

from __future__ import annotations

import dataclasses
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise import audio
from gan_denoise.audio.writer import Writer
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.file_enhancer import BLOCK_SECONDS
from gan_denoise.inference.file_task import FileTask, run_task
from gan_denoise.inference.folder_decision import Decider
from gan_denoise.inference.folder_journal import Journal, digest_of
from gan_denoise.inference.folder_plan import FolderPlan, plan_folder
from gan_denoise.inference.journal_files import NAME
from gan_denoise.inference.worker_pool import Worker

STAGES = ("decode", "network", "encode", "rest")
JOURNAL_LINES = 2  # of a file: begun, done


@dataclass(frozen=True)
class Costs:
    """Figures of one core, in seconds where nothing else is said.

    Attributes:
        start: Of `gan-denoise denoise`, from its beginning to its first file.
        worker_start: Of a process that it starts: libraries and model.
        plan: Of a file's name and header, before any work.
        decide: Of a file's digest, and of what the journal says of it.
        dispatch: Of sending a file to a process and recording its result, on the sender's side.
        stages: By name (seconds a file, seconds a second of audio): decoding, network, encoding,
            and the rest: transforms, levels, tags, journal.
        journal_append: Of one line.
        journal_read: Of one line of others.
        bytes_in: Of a second of audio, as it is read.
        bytes_out: Of a second of audio, as it is written.
    """

    start: float
    worker_start: float
    plan: float
    decide: float
    dispatch: float
    stages: dict[str, tuple[float, float]]
    journal_append: float
    journal_read: float
    bytes_in: float
    bytes_out: float

    def file(self, seconds: float) -> float:
        """Return the work on a file of so many seconds of audio."""
        return sum(each + rate * seconds for each, rate in self.stages.values())


def median(costs: Sequence[Costs]) -> Costs:
    """Return the median of each figure of several measurements."""
    rows = [dataclasses.asdict(one) for one in costs]
    stages = {name: tuple(statistics.median(row["stages"][name][part] for row in rows)
                          for part in (0, 1)) for name in STAGES}
    return Costs(**{key: statistics.median(row[key] for row in rows)
                    for key in rows[0] if key != "stages"}, stages=stages)


def measure(folder: Path, model: str) -> Costs:
    """Measure on the recordings of a folder; it takes about as long as three times denoising it.

    Args:
        folder: Recordings of several lengths, so that what each file costs can be told from what
            each second costs.
        model: Model folder, or name of a shipped model.
    """
    enhancer = Enhancer.load(model, threads=1)
    with tempfile.TemporaryDirectory(prefix="cluster-costs-") as temporary:
        out = Path(temporary, "out")
        plan, planned = timed(lambda: plan_folder([folder], out, enhancer.options))
        items, journal = plan.items, Journal(out)
        decide = Decider(journal, digest_of(enhancer.settings()), overwrite=False)
        tasks, decided = timed(lambda: [decide(item) for item in items])
        stages = _stages(enhancer, journal, tasks)
        append, read = _journal(journal, Path(temporary, "journal"))
        sizes = [(task.source.stat().st_size, task.target.stat().st_size) for task in tasks]
        seconds = sum(item.seconds for item in items)
        worker_start, dispatch = _worker(enhancer, tasks, Path(temporary, "worker"))
        start = _start(enhancer, plan, stages, Path(temporary, "start"))
    return Costs(
        start=start, worker_start=worker_start, plan=planned / len(items),
        decide=decided / len(items), dispatch=dispatch, stages=stages, journal_append=append,
        journal_read=read, bytes_in=sum(size for size, _ in sizes) / seconds,
        bytes_out=sum(size for _, size in sizes) / seconds,
    )


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> Any:
    """Return what some work returns, and its CPU seconds."""
    begun = clock()
    result = work()
    return result, clock() - begun


# ---- A recording -------------------------------------------------------------------------------
class _TimedSession:
    """An ONNX Runtime session that adds up the CPU time of its runs."""

    def __init__(self, session: Any):
        self._session, self.seconds = session, 0.0

    def run(self, *arguments: Any) -> Any:
        result, seconds = timed(lambda: self._session.run(*arguments), time.thread_time)
        self.seconds += seconds
        return result


def _stages(
    enhancer: Enhancer, journal: Journal, tasks: Sequence[FileTask]
) -> dict[str, tuple[float, float]]:
    """Return (seconds a file, seconds a second of audio) by stage, fitted over all files."""
    session = _TimedSession(enhancer.model.session)
    watched = Enhancer(dataclasses.replace(enhancer.model, session=session), enhancer.inversion,
                       enhancer.options, 1, enhancer.chunk_seconds, enhancer.pool)
    run_task(watched, journal, tasks[0], lambda _: None)  # warms up
    rows = []
    for task in tasks:
        session.seconds = 0.0
        result, whole = timed(lambda: run_task(watched, journal, task, lambda _: None))  # noqa: B023
        if result.status != "done":
            raise SystemExit(f"cannot measure: {result.error}")
        _, read = timed(lambda: list(_blocks(task.source)))  # noqa: B023
        _, copy = timed(lambda: _copy(task.source, journal.out / "copy"))  # noqa: B023
        rows.append((read, session.seconds, copy - read, whole - session.seconds - copy))
    lengths = np.stack([np.ones(len(tasks)), [task.header["seconds"] for task in tasks]], 1)
    fits = np.linalg.lstsq(lengths, np.array(rows), rcond=None)[0].T
    return {name: (float(each), float(rate))
            for name, (each, rate) in zip(STAGES, fits, strict=True)}


def _blocks(source: Path) -> Any:
    return audio.blocks(source, round(BLOCK_SECONDS * audio.probe(source).sample_rate))


def _copy(source: Path, folder: Path) -> None:
    info = audio.probe(source)
    folder.mkdir(exist_ok=True)
    with Writer(folder / source.name, info.sample_rate, info.channels, info.format,
                info.subtype) as writer:
        for block in _blocks(source):
            writer.write(block)


def _journal(journal: Journal, folder: Path, lines: int = 400) -> tuple[float, float]:
    """Return the seconds in which a line is appended, and in which one of others is read."""
    written = (journal.out / NAME).read_bytes().splitlines(keepends=True)
    own = Journal(folder)
    _, append = timed(lambda: [own.begin([folder / f"{n}.wav"]) for n in range(lines)])
    with open(folder / NAME, "ab") as file:
        file.writelines(itertools.islice(itertools.cycle(written), lines))
    own.refresh()
    with open(folder / NAME, "ab") as file:
        file.writelines(itertools.islice(itertools.cycle(written), lines))
    _, read = timed(own.refresh)
    return append / lines, read / lines


# ---- Processes ---------------------------------------------------------------------------------
def _children() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _worker(enhancer: Enhancer, tasks: Sequence[FileTask], out: Path) -> tuple[float, float]:
    """Return what a process takes to start, and its parent for each file."""
    starts = []
    for _ in range(3):
        worker = Worker(enhancer, Journal(out), threads=1)
        _, seconds = timed(lambda: _end(worker, []), _children)  # noqa: B023
        starts.append(seconds)
    worker = Worker(enhancer, Journal(out), threads=1)
    moved = [dataclasses.replace(task, target=out / task.target.name) for task in tasks]
    _, seconds = timed(lambda: _end(worker, moved))
    return statistics.median(starts), seconds / len(tasks)


def _end(worker: Worker, tasks: Sequence[FileTask]) -> None:
    list(worker.run(tasks))
    worker.terminate()
    worker.join()


def _start(
    enhancer: Enhancer, plan: FolderPlan, stages: dict[str, tuple[float, float]], out: Path
) -> float:
    """Return what `gan-denoise denoise` takes beside the work on its one file."""
    item = min(plan.items, key=lambda item: item.seconds)
    command = [sys.executable, "-m", "gan_denoise.cli", "denoise", str(item.source), "-o",
               str(out), "-m", str(enhancer.folder), "--threads", "1", "--overwrite"]
    whole = [timed(lambda: subprocess.run(command, check=True, capture_output=True), _children)[1]
             for _ in range(3)]
    return statistics.median(whole) - sum(each + rate * item.seconds
                                          for each, rate in stages.values())
