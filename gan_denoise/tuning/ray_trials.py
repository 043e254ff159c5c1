"""Trials on a Ray cluster: an actor for each, which holds the process of the trial.

To the study it looks like a process of this machine: a thread here passes on what the trial sends
and what the study answers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from multiprocessing.connection import Connection
from typing import Any

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.ray_jobs import WORKER_TRIES, RayPool, Surroundings, enter
from gan_denoise.tuning.trial import (
    STOP_SECONDS,
    Job,
    Outcome,
    TrainFunction,
    Validation,
    ctrl_c_later,
    launch,
)

POLL_SECONDS = 0.5  # between looks whether a trial that waits for the study was killed
_CONTROL = "control"  # calls that are answered while the trial runs


# ---- On the machines of the cluster ------------------------------------------------------------
class TrialActor:
    """Starts the process of a trial, and passes on what it sends."""

    def start(self, job: Job, train: TrainFunction | None, surroundings: Surroundings) -> None:
        """Start the process; see `launch` and `ray_jobs.enter` for the arguments and errors."""
        enter(surroundings)
        with ctrl_c_later():
            self._process, self._connection = launch(job, train)

    def receive(self) -> Validation | Outcome | str:
        """Return what the trial sends next; how its process ended where that is nothing."""
        try:
            message = self._connection.recv()
        except (EOFError, OSError):
            message = None
        if isinstance(message, Validation):
            return message
        self._process.join(STOP_SECONDS)
        self._process.kill()
        self._process.join()
        return message or self._process.describe_exit()

    def answer(self, goes_on: bool) -> None:
        """Let the trial go on, or not."""
        with contextlib.suppress(OSError):  # it died meanwhile: the next `receive` shows it
            self._connection.send(goes_on)

    def interrupt(self) -> None:
        """Let the run save its state and end."""
        self._process.interrupt()


# ---- On this machine ---------------------------------------------------------------------------
class RayTrials:
    """Starts trials on a cluster.

    Args:
        pool: Workers that see the folder of the study.
        train: See `run_trial`.
    """

    def __init__(self, pool: RayPool, train: TrainFunction | None = None):
        self._pool, self._train = pool, train

    def launch(self, job: Job) -> tuple[RayTrial, Connection]:
        """Start a trial on as many CPUs as it has threads; return it and the connection to it."""
        ours, theirs = multiprocessing.Pipe()
        return RayTrial(self._pool, job, self._train, theirs), ours


class RayTrial:
    """A trial on a cluster, as the study handles processes.

    Where its worker is lost, another one goes on from the last checkpoint of the run; a trial on
    which `WORKER_TRIES` workers died has failed.
    """

    def __init__(self, pool: RayPool, job: Job, train: TrainFunction | None, theirs: Connection):
        self._ray, self._job, self._train, self._theirs = pool.ray, job, train, theirs
        self._surroundings = pool.surroundings()
        self._actor: Any = None
        self._end, self._started, self._killed = "", False, False
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """End the trial at once."""
        self._killed = True
        if self._actor is not None:
            self._ray.kill(self._actor)

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout)

    def interrupt(self) -> None:
        """Let the run save its state and end."""
        if not self._started:  # it waits for a CPU
            self.kill()
        else:
            self._actor.interrupt.options(concurrency_group=_CONTROL).remote()

    def describe_exit(self) -> str:
        """Return in words how it has ended where it sent no outcome."""
        return self._end

    def _relay(self) -> None:
        """Follow the trial on one worker after the other, until it has ended."""
        with self._theirs:
            for tries in range(1, WORKER_TRIES + 1):
                try:
                    end = self._follow()
                except self._ray.exceptions.RayActorError:
                    if self._killed:
                        return
                    self._end = f"the worker died, {tries} times"
                    continue
                except (EOFError, OSError):  # the study is over
                    return
                finally:
                    if self._actor is not None:
                        self._ray.kill(self._actor)
                if isinstance(end, Outcome):
                    self._theirs.send(end)
                else:
                    self._end = end
                return

    def _follow(self) -> Outcome | str:
        """Do the trial on a worker; return its outcome, or how it ended without."""
        threads = max(self._job.config.training.threads, 1)
        actor = self._ray.remote(num_cpus=threads, max_restarts=0,
                                 concurrency_groups={_CONTROL: 1})(TrialActor)
        self._actor = actor.remote()
        try:
            self._ray.get(self._actor.start.remote(self._job, self._train, self._surroundings))
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, GanDenoiseError):
                return Outcome("failed", reason=str(error.cause))
            return Outcome("failed", reason=str(error))
        self._started = True
        while isinstance(message := self._ray.get(self._actor.receive.remote()), Validation):
            self._theirs.send(message)
            while not self._theirs.poll(POLL_SECONDS):
                if self._killed:
                    return "the study is over"
            self._actor.answer.remote(self._theirs.recv())
        return message
