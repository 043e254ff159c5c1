"""The workers of a folder run, from the side of the process that starts them.

A file that ends its process, by a fault in a codec or for want of memory, is one failed file; the
next files go to a new process. `Worker` is a process of this machine; `ray_workers` has those of a
cluster.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from gan_denoise.core.processes import ProcessDied, exit_text
from gan_denoise.inference.file_task import FileTask
from gan_denoise.inference.folder_journal import Journal, digest_of, to_json
from gan_denoise.inference.model import ModelError
from gan_denoise.inference.results import FileResult
from gan_denoise.inference.worker_setup import setup_of

if TYPE_CHECKING:
    from gan_denoise.inference.enhancer import Enhancer

PLACE_SECONDS = 10.0  # that files wait for a worker which has no place yet, before others may go
START_TRIES = 3  # of a worker that is killed before it has the model
STOP_SECONDS = 10.0  # for a process to remove what it has half-written, before it is killed
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Worker:
    """A process that denoises files in turn. One thread uses it; any thread may stop it."""

    def __init__(self, enhancer: Enhancer, journal: Journal, threads: int):
        """Start the process; it loads the model while others start.

        Args:
            enhancer: The model and options that the process loads for itself.
            journal: The journal that the process writes to as well.
            threads: Number of threads of the process.
        """
        # The parent's path, so that the same package is found; -P, so that no file of the current
        # folder stands in for a module.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._environment = (os.environ | dict.fromkeys(_BLAS_THREADS, str(threads))
                             | {"PYTHONPATH": path})
        self._setup = setup_of(enhancer, threads) | {"journal": journal.values()}
        self._settings = digest_of(enhancer.settings())
        self._ready = False
        self._guard, self._ended = threading.Lock(), False
        self._begin()

    def _begin(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gan_denoise.inference.folder_worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment)
        self._send(self._setup)

    def ready(self, seconds: float) -> bool:
        """Return True: the process is there, and files wait in its pipe until it has the model."""
        return True

    def run(self, tasks: Sequence[FileTask]) -> Iterator[float | FileResult]:
        """Denoise files in turn: give the seconds done, again and again, then the result of each.

        Raises:
            ProcessDied: When the process ends before the last result.
            ModelError: When it cannot load the model, or finds another one.
        """
        if not self._ready:
            self._await_model()
        self._send([task.to_json() for task in tasks])
        for task in tasks:
            while "figures" not in (answer := self._receive()):
                yield answer["seconds"]
            yield task.result(**answer["figures"])

    def terminate(self) -> None:
        """Ask the process to end now; it removes what it has half-written."""
        with self._guard:
            self._ended = True
            self._process.terminate()

    def join(self) -> None:
        """Wait until the process has ended, and kill it when that takes too long."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def _await_model(self) -> None:
        answer = self._loaded()
        if "refused" in answer:
            raise ModelError(answer["refused"])
        if answer["ready"] != self._settings:
            raise ModelError("the model's folder changed since it was loaded; start again")
        self._ready = True

    def _loaded(self) -> dict[str, Any]:
        """Return what the process says of its model; one that is killed before that is replaced.

        Raises:
            ModelError: When it cannot start.
        """
        for tries in itertools.count(1):
            try:
                return self._receive()
            except ProcessDied as error:
                with self._guard:
                    killed = self._process.returncode < 0
                    if not killed or self._ended or tries == START_TRIES:
                        raise ModelError(f"a worker could not start: {error}") from None
                    self._close()
                    self._begin()

    def _send(self, values: Any) -> None:
        with contextlib.suppress(OSError):  # the process has ended: `_receive` says how
            self._process.stdin.write(to_json(values) + b"\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise ProcessDied(f"the process died ({exit_text(self._process.wait())})")
        return json.loads(line)


class AnyWorker(Protocol):
    """What a pool needs of a worker, see `Worker`."""

    def ready(self, seconds: float) -> bool:
        """Wait that long at most; return whether files may be sent."""

    def run(self, tasks: Sequence[FileTask]) -> Iterator[float | FileResult]:
        """Denoise files in turn; raise `ProcessDied` when the worker is lost on the way."""

    def terminate(self) -> None:
        """Ask for the end."""

    def join(self) -> None:
        """Wait for the end."""


class WorkerPool:
    """Workers that share the files of a run; each starts when there is work for it."""

    def __init__(
        self,
        jobs: int,
        decide: Callable[[Any], FileResult | FileTask],
        start: Callable[[], AnyWorker],
    ):
        """Prepare the pool; `run` starts it.

        Args:
            jobs: Number of workers.
            decide: Returns what is to be done with a file, or its result where nothing is; it is
                called on several threads.
            start: Starts a worker.
        """
        self._jobs, self._decide, self._start = jobs, decide, start
        self._batches: deque[Sequence[Any]] = deque()
        # (target, seconds or result); (None, the error that ends the run, or None for the end).
        self._events: SimpleQueue[tuple[Path | None, Any]] = SimpleQueue()
        self._workers: list[AnyWorker] = []
        self._deaths: Counter[Path] = Counter()  # of workers, by the target in work
        self._stopped, self._guard = False, threading.Lock()

    def run(
        self,
        batches: Iterable[Sequence[Any]],
        record: Callable[[Path, float | FileResult], None],
    ) -> None:
        """Do all files, each worker one batch after the other.

        Args:
            batches: Files that one worker takes at once.
            record: Called on this thread with a target and, again and again, the seconds of it
                that were done, then its result. What it raises ends the run.

        Raises:
            ModelError: When a worker cannot load the model.
        """
        self._batches.extend(batches)
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self._jobs)]
        for thread in threads:
            thread.start()
        try:
            running = self._jobs
            while running:
                target, event = self._events.get()
                if target is not None:
                    record(target, event)
                elif event is not None:
                    raise event
                else:
                    running -= 1
        finally:
            with self._guard:
                self._stopped = True
            for worker in self._workers:
                worker.terminate()
            for worker in self._workers:
                worker.join()
            for thread in threads:
                thread.join()

    def _serve(self) -> None:
        """Do batches in one worker until there are none; runs on a thread of its own."""
        if hasattr(signal, "pthread_sigmask"):  # the process inherits it: Ctrl-C is the parent's
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker = None
        try:
            while (batch := self._next_batch()) is not None:
                tasks = self._tasks(batch)
                while tasks:
                    if worker is None and (worker := self._new_worker()) is None:
                        return
                    if not worker.ready(PLACE_SECONDS):
                        self._give_back(tasks)
                        self._await_place(worker)
                        break
                    if not self._finish(worker, tasks):
                        worker = None
            if worker is not None:  # one that still waits for a place may have this one's
                worker.terminate()
                worker.join()
        except BaseException as error:
            self._events.put((None, error))
        finally:
            self._events.put((None, None))

    def _next_batch(self) -> Sequence[Any] | None:
        with self._guard:
            return self._batches.popleft() if self._batches and not self._stopped else None

    def _tasks(self, batch: Sequence[Any]) -> deque[FileTask]:
        """Return what there is to do in a batch; results of the other files are recorded."""
        tasks: deque[FileTask] = deque()
        for item in batch:
            decision = item if isinstance(item, FileTask) else self._decide(item)
            if isinstance(decision, FileTask):
                tasks.append(decision)
            else:
                self._events.put((decision.target, decision))
        return tasks

    def _give_back(self, tasks: Iterable[FileTask]) -> None:
        """Leave tasks to whichever worker is free first."""
        with self._guard:
            self._batches.appendleft(tuple(tasks))

    def _await_place(self, worker: AnyWorker) -> None:
        """Wait until a worker is ready, or nothing is left for it."""
        while self._batches and not self._stopped and not worker.ready(1.0):
            pass

    def _new_worker(self) -> AnyWorker | None:
        """Start a worker; None where the run is to end."""
        with self._guard:
            if self._stopped:
                return None
            worker = self._start()
            self._workers.append(worker)
            return worker

    def _finish(self, worker: AnyWorker, tasks: deque[FileTask]) -> bool:
        """Do tasks in a worker and take off those with a result; False when it died."""
        try:
            for event in worker.run(list(tasks)):
                self._events.put((tasks[0].target, event))
                if isinstance(event, FileResult):
                    tasks.popleft()
        except ProcessDied as error:
            task = tasks[0]
            with self._guard:
                self._deaths[task.target] += 1
                deaths = self._deaths[task.target]
            if deaths >= error.tries:
                tasks.popleft()
                often = f", {deaths} times" if deaths > 1 else ""
                text = f"{task.source}: {error} while on this file{often}"
                self._events.put((task.target, task.result(status="failed", error=text)))
            return False
        return True
