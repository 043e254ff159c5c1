"""A trial of a study: a training run in a process of its own, which may be told to stop."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gan_denoise.cli import console
from gan_denoise.config.schema import Config
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.processes import end_with_the_parent
from gan_denoise.data.datasets import Material


class _Stopped(Exception):
    """Ends a run that lags behind."""


@dataclass(frozen=True)
class Job:
    """A trial for a process.

    Attributes:
        config: Settings of the run.
        run_dir: Its directory.
        kind: `pretrain` or `finetune`.
        init: Run or model folder to start from.
        material: Training material; None: what the settings name.
        train: Stands in for `run.train`.
    """

    config: Config
    run_dir: Path
    kind: str
    init: Path | None
    material: Material | None
    train: Callable[..., Any] | None = None


def work(job: Job, connection: Connection) -> None:
    """Do a trial; send `(word, ...)`: each validation, and at last `done`, `stopped` or `failed`.

    After a validation it is received whether the run goes on.
    """

    def on_validation(step: int, values: Mapping[str, float]) -> None:
        connection.send(("validation", step, dict(values)))
        if not connection.recv():
            raise _Stopped

    try:
        train = job.train
        if train is None:
            from gan_denoise.training.loop import train
        result = train(job.config, job.run_dir, job.kind, job.init, console.console(stderr=True),
                       job.material, on_validation)
        answer = ("done", dict(result.best))
    except _Stopped:
        answer = ("stopped",)
    except Exception as error:  # the trial's failure, not the study's
        traceback.print_exc()
        known = isinstance(error, (OSError, GanDenoiseError))
        answer = ("failed", str(error) if known else f"{type(error).__name__}: {error}")
    connection.send(answer)


def launch(job: Job) -> tuple[Any, Connection]:
    """Start a process that does a trial; return it with the connection to it.

    Call it within `ctrl_c_later`: Ctrl-C at the terminal is not to reach the process before it has
    left this one's group, and takes it from here.
    """
    ours, theirs = multiprocessing.Pipe()
    # Not forked: a fork of a process with threads may hang, and inherits what TensorFlow has set.
    process = multiprocessing.get_context("spawn").Process(target=_process, args=(job, theirs))
    process.start()
    theirs.close()
    return process, ours


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


def death(process: Any) -> str:
    """Say how a process has ended without a last word."""
    code = process.exitcode
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    return f"the process died ({how}{': out of memory?' if code == -9 else ''})"


def _process(job: Job, connection: Connection) -> None:
    end_with_the_parent()
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C is the parent's, which passes it on
    job.run_dir.parent.mkdir(parents=True, exist_ok=True)
    with open(job.run_dir.with_suffix(".log"), "a", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    os.environ.setdefault("WANDB_RUN_GROUP", job.run_dir.parent.parent.name)
    with contextlib.suppress(KeyboardInterrupt):  # the run has saved its state and said so
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        work(job, connection)
