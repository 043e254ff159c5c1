"""What runs in a process of its own: a training run, and an export; they report through a pipe.

A process ends with the server. Ctrl-C in the server's terminal does not reach it: the server stops
it as it ends. Messages are pairs: `("log", line)`, `("progress", values)`, and as the last one
`("done", words)`, `("stopped", words)` or `("failed", words)`.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.processes import Interruption, end_with_the_parent

if TYPE_CHECKING:
    from gan_denoise.config.schema import Config
    from gan_denoise.training.progress import OnProgress, TrainingProgress

LOG, PROGRESS, DONE, STOPPED, FAILED = "log", "progress", "done", "stopped", "failed"
PROGRESS_SECONDS = 0.25  # between two messages


class _PipeHandler(logging.Handler):
    """Sends what the package logs."""

    def __init__(self, pipe: Connection):
        super().__init__(logging.INFO)
        self.pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        self.pipe.send((LOG, record.getMessage()))


def train_run(
    pipe: Connection, interruption: Interruption, run: Path, kind: str, config: Config,
    init: Path | None,
) -> None:
    """Train or resume a run; arguments as of `training.loop.train`."""

    def work() -> str:
        from gan_denoise.core.native_libraries import load_tensorflow

        load_tensorflow()
        from gan_denoise.training.loop import train
        from gan_denoise.training.monitor import summary

        result = train(config, run, kind, init, progress=_sender(pipe))
        return f"{result.step} steps; best validation: {summary(result.best)}"

    _report(pipe, interruption, work)


def export_run(
    pipe: Connection, interruption: Interruption, run: Path, out: Path
) -> None:
    """Export the best state of a run."""

    def work() -> str:
        from gan_denoise.core.native_libraries import load_tensorflow

        load_tensorflow()
        from gan_denoise.exporting.exporter import export

        export(run, out)
        return f"exported {out.name}"

    _report(pipe, interruption, work)


def _report(pipe: Connection, interruption: Interruption, work: Callable[[], str]) -> None:
    """Do the work and send how it ended; a fault of the program shows its traceback."""
    end_with_the_parent()
    interruption.receive()
    logger = logging.getLogger("gan_denoise")
    logger.setLevel(logging.INFO)
    logger.addHandler(_PipeHandler(pipe))
    try:
        pipe.send((DONE, work()))
    except KeyboardInterrupt:
        pipe.send((STOPPED, "stopped"))
    except (GanDenoiseError, OSError) as error:
        pipe.send((FAILED, str(error)))


def _sender(pipe: Connection) -> OnProgress:
    """Return a progress callback that sends now and then, and the last step always."""
    sent = 0.0

    def on_progress(progress: TrainingProgress) -> None:
        nonlocal sent
        if progress.step != progress.total_steps and time.monotonic() - sent < PROGRESS_SECONDS:
            return
        sent = time.monotonic()
        pipe.send((PROGRESS, dataclasses.asdict(progress) | {
            "seconds_left": progress.seconds_left}))

    return on_progress
