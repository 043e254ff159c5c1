"""Processes that share the files of a folder, from the side of the one that started them.

A file that takes its process down, by a fault in a codec or for want of memory, is one failed file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from gan_denoise.inference.enhancer import Enhancer, ModelError
from gan_denoise.inference.folder_journal import digest_of, to_json
from gan_denoise.inference.folder_worker import Order
from gan_denoise.inference.results import FileResult

STOP_SECONDS = 10.0  # for a process to remove what it has half-written, before it is killed
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerDied(Exception):
    """A process ended while it was on a file; says how."""


class Worker:
    """A process that denoises files in turn. One thread uses it; any may stop it."""

    def __init__(self, enhancer: Enhancer, out: Path, threads: int):
        """Start the process; it loads the model while others start.

        Args:
            enhancer: What the process loads for itself.
            out: Folder of the journal.
            threads: Of the process.
        """
        # The parent's path, so that the same package is found; -P, so that no file of the current
        # folder stands in for a module.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = os.environ | dict.fromkeys(_BLAS_THREADS, str(threads))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gan_denoise.inference.folder_worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment | {"PYTHONPATH": path},
        )
        self._settings = digest_of(enhancer.settings())
        self._ready = False
        self._send({
            "model": enhancer.model.folder.resolve(),
            "inversion": enhancer.inversion.model_dump_json(),
            "treatment": enhancer.treatment.model_dump(), "threads": threads,
            "chunk_seconds": enhancer.chunk_seconds, "out": out,
        })

    def perform(self, orders: Sequence[Order]) -> Iterator[float | FileResult]:
        """Denoise files in turn: give the seconds done, again and again, then the result of each.

        Raises:
            WorkerDied: When the process ends on the way.
            ModelError: When it cannot load the model, or finds another one.
        """
        if not self._ready:
            self._await()
        self._send([asdict(order) for order in orders])
        for order in orders:
            while "figures" not in (answer := self._receive()):
                yield answer["seconds"]
            yield order.result(**answer["figures"])

    def terminate(self) -> None:
        """Ask the process to end now; what it has half-written is removed."""
        self._process.terminate()

    def join(self) -> None:
        """Wait until the process has ended, and end it by force where it does not listen."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def _await(self) -> None:
        try:
            answer = self._receive()
        except WorkerDied as death:
            raise ModelError(f"a worker could not start: {death}") from None
        if "refused" in answer:
            raise ModelError(answer["refused"])
        if answer["ready"] != self._settings:
            raise ModelError("the model's folder changed since it was loaded; start again")
        self._ready = True

    def _send(self, values: Any) -> None:
        with contextlib.suppress(OSError):  # it is dead, which `_receive` finds
            self._process.stdin.write(to_json(values) + b"\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            code = self._process.wait()
            how = f"exit code {code}" if code >= 0 else f"signal {-code}"
            if code == -9:
                how += ": out of memory?"
            raise WorkerDied(f"the process died ({how})")
        return json.loads(line)


def spread(
    batches: Iterable[Sequence[Any]],
    jobs: int,
    decide: Callable[[Any], FileResult | Order],
    start: Callable[[], Worker],
    tell: Callable[[Path, float | FileResult], None],
) -> None:
    """Share files among processes, which start when there is work for them.

    Args:
        batches: Files that one process takes at once.
        jobs: Count of processes.
        decide: Says what is to be done with a file; called on several threads.
        start: Starts a process.
        tell: Called on this thread with a target and its seconds done, then its result.
    """
    queue, events = deque(batches), SimpleQueue()
    workers: list[Worker] = []
    stopped, guard = threading.Event(), threading.Lock()

    def lane() -> None:
        if hasattr(signal, "pthread_sigmask"):  # a process inherits it: Ctrl-C is the parent's
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker = None
        try:
            while not stopped.is_set():
                with guard:
                    batch = queue.popleft() if queue else None
                if batch is None:
                    return
                orders = deque()
                for item in batch:
                    verdict = decide(item)
                    if isinstance(verdict, Order):
                        orders.append(verdict)
                    else:
                        events.put((verdict.target, verdict))
                while orders:
                    if worker is None:
                        with guard:
                            if stopped.is_set():
                                return
                            worker = start()
                            workers.append(worker)
                    try:
                        for event in worker.perform(list(orders)):
                            events.put((orders[0].target, event))
                            if isinstance(event, FileResult):
                                orders.popleft()
                    except WorkerDied as death:
                        worker, order = None, orders.popleft()
                        text = f"{order.source}: {death} while on this file"
                        events.put((order.target, order.result(status="failed", error=text)))
        except BaseException as error:
            events.put((None, error))
        finally:
            events.put((None, None))

    threads = [threading.Thread(target=lane, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    try:
        running = jobs
        while running:
            target, event = events.get()
            if target is not None:
                tell(target, event)
            elif event is not None:
                raise event
            else:
                running -= 1
    finally:
        with guard:
            stopped.set()
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        for thread in threads:
            thread.join()
