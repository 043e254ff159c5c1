"""A trial of a study: a training run in a process of its own, which can be stopped early."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from gan_denoise.config.schema import Config
from gan_denoise.core.errors import GanDenoiseError, OutputError
from gan_denoise.core.processes import Interruption, end_with_the_parent, exit_text
from gan_denoise.core.text import escape_text
from gan_denoise.data.datasets import Material
from gan_denoise.training.progress import now_and_then

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from gan_denoise.training.loop import Kind, OnValidation, TrainingResult
    from gan_denoise.training.progress import OnProgress

STOP_SECONDS = 60.0  # for a run to save its state after Ctrl-C, and for a process to end

logger = logging.getLogger(__name__)


class TrainFunction(Protocol):
    """What trains a trial: `training.loop.train`, or what a test puts in its place."""

    def __call__(
        self, config: Config, run_dir: Path, kind: Kind, init: Path | None, *,
        material: Material | None, on_validation: OnValidation, progress: OnProgress,
    ) -> TrainingResult: ...


class _Stopped(Exception):
    """Ends a run that the pruner has stopped."""


@dataclass(frozen=True)
class Job:
    """All that a trial is made of; it can be sent to another process.

    Attributes:
        config: Settings of the run.
        run_dir: Its directory.
        kind: `pretrain` or `finetune`.
        init: Run or model folder to start from.
        material: Training material; None: what the settings name.
    """

    config: Config
    run_dir: Path
    kind: Kind
    init: Path | None
    material: Material | None


@dataclass(frozen=True)
class Validation:
    """A validation of a trial.

    Attributes:
        step: When it was.
        values: Its named values.
    """

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """How a trial has ended.

    Attributes:
        state: `done`, `stopped` by the pruner, `failed`, or `interrupted` as a file could not be
            written or read: that says nothing of the settings, and the run can go on.
        best: Validation values of the best state, and its step; empty unless done.
        reason: Why it failed or was interrupted.
    """

    state: Literal["done", "stopped", "failed", "interrupted"]
    best: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def run_trial(
    job: Job, goes_on: Callable[[Validation], bool], train: TrainFunction | None = None
) -> Outcome:
    """Train as a job says, in this process; a run that is in its directory is resumed.

    Needs nothing but its arguments, so any process of any machine that sees the files can do it.

    Args:
        job: The trial.
        goes_on: Called with each validation; returns whether the run goes on.
        train: What trains; None: `training.loop.train`.

    Returns:
        How it has ended; an error is the outcome `failed` or `interrupted`, one that is a fault of
        the program with its traceback on stderr.
    """

    def on_validation(step: int, values: Mapping[str, float]) -> None:
        if not goes_on(Validation(step, dict(values))):
            raise _Stopped

    try:
        if train is None:
            from gan_denoise.training import loop

            train = loop.train
        result = train(
            job.config, job.run_dir, job.kind, job.init, material=job.material,
            on_validation=on_validation, progress=now_and_then(
                lambda progress: logger.info("%s · %s", progress.position, progress.figures)),
        )
        return Outcome("done", dict(result.best))
    except _Stopped:
        return Outcome("stopped")
    except (OSError, OutputError) as error:
        return Outcome("interrupted", reason=str(error))
    except GanDenoiseError as error:
        return Outcome("failed", reason=str(error))
    except Exception as error:  # the trial's failure, not the study's
        traceback.print_exc()
        return Outcome("failed", reason=f"{type(error).__name__}: {error}")


def run_connected(job: Job, connection: Connection, train: TrainFunction | None = None) -> None:
    """Do a trial for a process at the other end of a connection.

    Sends a `Validation` after each validation and receives whether the run goes on; at the end
    sends the `Outcome`.

    Args:
        job: The trial.
        connection: To the process of the study.
        train: See `run_trial`.
    """

    def goes_on(validation: Validation) -> bool:
        connection.send(validation)
        return connection.recv()

    connection.send(run_trial(job, goes_on, train))


class TrialProcess(Protocol):
    """What does a trial, to a study: a process, wherever it runs."""

    def kill(self) -> None:
        """End it at once."""

    def join(self, timeout: float | None = None) -> None:
        """Wait, for so many seconds at most, until it has ended."""

    def interrupt(self) -> None:
        """Let the run save its state and end, as Ctrl-C would."""

    def describe_exit(self) -> str:
        """Return in words how it has ended that sent no outcome."""


@dataclass(frozen=True)
class TrialHost:
    """Where trials run.

    Attributes:
        launch: Starts a trial.
        workers: Trials at once.
        threads: Threads of each where the settings name no number; 0: all cores.
    """

    launch: Callable[[Job], tuple[TrialProcess, Connection]]
    workers: int
    threads: int


class LocalProcess:
    """A process of this machine; see `TrialProcess`."""

    def __init__(self, process: BaseProcess, interruption: Interruption):
        self._process, self._interruption = process, interruption
        self.kill, self.join = process.kill, process.join

    def interrupt(self) -> None:
        """See `TrialProcess`."""
        self._interruption.send(self._process)

    def describe_exit(self) -> str:
        """See `TrialProcess`."""
        return f"the process died ({exit_text(self._process.exitcode or 0)})"


def launch(job: Job, train: TrainFunction | None = None) -> tuple[LocalProcess, Connection]:
    """Start a process that does a trial; return it with the connection to it.

    Call it within `ctrl_c_later`: Ctrl-C at the terminal must not reach the process before it has
    left this one's group; from then on the study passes it on.
    """
    ours, theirs = multiprocessing.Pipe()
    # Not forked: a fork of a process with threads may hang, and inherits what TensorFlow has set.
    context = multiprocessing.get_context("spawn")
    interruption = Interruption(context)
    process = context.Process(target=_process, args=(job, theirs, interruption, train))
    process.start()
    theirs.close()
    return LocalProcess(process, interruption), ours


@contextlib.contextmanager
def ctrl_c_later() -> Iterator[None]:
    """Hold Ctrl-C back; a process that is launched within has it held back, too."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class _LogFormatter(logging.Formatter):
    """The message alone, a line each: names may hold any character."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_text(super().format(record))


def _process(
    job: Job, connection: Connection, interruption: Interruption, train: TrainFunction | None
) -> None:
    """Do a trial in a process of its own, whose output goes to `RUN.log`."""
    end_with_the_parent()
    interruption.receive()  # Ctrl-C is the parent's, which passes it on
    job.run_dir.parent.mkdir(parents=True, exist_ok=True)
    with open(job.run_dir.with_suffix(".log"), "a", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    handler = logging.StreamHandler()  # to the file, too
    handler.setFormatter(_LogFormatter("%(message)s"))
    package = logging.getLogger("gan_denoise")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    os.environ.setdefault("WANDB_RUN_GROUP", job.run_dir.parent.parent.name)
    with contextlib.suppress(KeyboardInterrupt):  # the run has saved its state and logged it
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        run_connected(job, connection, train)
