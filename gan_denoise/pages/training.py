"""The one training run of a server: started, watched, stopped, resumed, exported.

It belongs to the server, not to a session: it goes on while nobody looks, and every visitor sees
the same. It ends, at a whole step, when the server does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import shlex
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypedDict

from gan_denoise.config.artifacts import BEST, LATEST, NETWORK, SETTINGS
from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import Config
from gan_denoise.core.processes import Interruption, exit_text
from gan_denoise.pages.models import Models
from gan_denoise.pages.settings import ServeError, ServeSettings
from gan_denoise.pages.training_choice import EXPORTED, Choice, more_steps, parse_choice
from gan_denoise.pages.training_process import (
    DONE,
    FAILED,
    LOG,
    PROGRESS,
    STOPPED,
    export_run,
    train_run,
)
from gan_denoise.training.checkpoints import CheckpointError, RunState, read_progress
from gan_denoise.training.run_events import RunEvents

IDLE, TRAINING, STOPPING, EXPORTING = "idle", "training", "stopping", "exporting"
NEEDED = ("tensorflow", "keras", "librosa", "sklearn", "tensorboard", "onnx", "matplotlib")
LOG_LINES = 200
STOP_SECONDS = 30.0  # that a run has to save its state when the server ends


class RunRow(TypedDict):
    """A run, as the page lists it."""

    name: str
    kind: str
    step: int
    total_steps: int | None
    finished: bool
    has_best: bool
    exported: bool


class Training:
    """Trains one run at a time in a process of its own.

    Args:
        settings: Settings of the server: folders of recordings, and of runs.
        models: The models that the server offers; exported ones are added.
    """

    def __init__(self, settings: ServeSettings, models: Models):
        self.roots: Sequence[Path] = tuple(settings.data)
        self.runs = Path(settings.runs)
        self.models = models
        self._lock = threading.RLock()
        self._process: SpawnProcess | None = None
        self._reader: threading.Thread | None = None
        self._events: RunEvents | None = None
        self._state, self._run, self._command = IDLE, "", ""
        self._outcome, self._words = "", ""  # of the last process
        self._progress: dict[str, object] = {}
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        if self.offered:
            for network in sorted((self.runs / EXPORTED).glob(f"*/{NETWORK}")):
                models.add(network.parent)

    @property
    def offered(self) -> bool:
        """Whether the server was started with folders to train on."""
        return bool(self.roots)

    @property
    def missing(self) -> list[str]:
        """Packages of the `train` extra that are not installed."""
        return [name for name in NEEDED if importlib.util.find_spec(name) is None]

    def sources(self) -> dict[str, Path]:
        """Return what fine-tuning may start from, by name: models, and runs with a best state."""
        runs = {f"run {row['name']}": self.runs / row["name"] for row in self.list_runs()
                if row["has_best"]}
        return self.models.folders | runs

    # ---- Runs ----------------------------------------------------------------------------------
    def list_runs(self) -> list[RunRow]:
        """Return the runs, the latest first: name, kind, steps, and whether there is a best."""
        states = sorted(self.runs.glob(f"*/{LATEST}"), key=lambda path: -path.stat().st_mtime)
        rows = []
        for state in states:
            with contextlib.suppress(CheckpointError):  # what is no whole run is not offered
                progress = read_progress(state)
                rows.append(self._row(state.parent, progress))
        return rows

    def _row(self, run: Path, progress: RunState) -> RunRow:
        total = progress.total_steps
        return {"name": run.name, "kind": progress.kind, "step": progress.step,
                "total_steps": total, "finished": total is not None and progress.step >= total,
                "has_best": (run / BEST).is_file(),
                "exported": (self.runs / EXPORTED / run.name / NETWORK).is_file()}

    def run_folder(self, name: str) -> Path:
        """Return the directory of a run.

        Raises:
            ServeError: When there is no run of that name.
        """
        known = {path.parent.name: path.parent for path in self.runs.glob(f"*/{LATEST}")}
        with self._lock:
            if self._run and self._state != IDLE:
                known[self._run] = self.runs / self._run  # may not have saved a state yet
        try:
            return known[name]
        except KeyError:
            raise ServeError(f"there is no run {name!r}", status=404) from None

    def events(self, name: str) -> RunEvents:
        """Return what a run has logged so far."""
        folder = self.run_folder(name)
        with self._lock:
            if self._events is None or self._events.run_dir != folder:
                self._events = RunEvents(folder)
            return self._events.update()

    def metric(self, name: str) -> str:
        """Return the validation metric by which a run's best state is chosen."""
        return settings_of(self.run_folder(name)).training.select_by

    # ---- The one process -----------------------------------------------------------------------
    def start(self, values: Mapping[str, object]) -> None:
        """Start a new run, see `training_choice.parse_choice`.

        Raises:
            ServeError: When one is running, or the choice cannot be.
            ConfigError: When the settings do not fit each other.
        """
        with self._lock:
            self._check_free()
            choice = parse_choice(values, self.roots, self.sources(), self.runs)
            self._train(choice)

    def _train(self, choice: Choice) -> None:
        self._launch(TRAINING, choice.run, choice.command, train_run, choice.run, choice.kind,
                     choice.load(), choice.init)

    def resume(self, name: str) -> None:
        """Go on with a run that was stopped.

        Raises:
            ServeError: When a run is running, or there is none of that name.
        """
        with self._lock:
            self._check_free()
            run = self.run_folder(name)
            progress, config = read_progress(run / LATEST), settings_of(run)
            if self._row(run, progress)["finished"]:
                raise ServeError(f"{name} has trained all of its {progress.step} steps",
                                 "give it more minutes, or fine-tune it")
            self._go_on(run, progress.kind, config)

    def extend(self, name: str, minutes: object) -> None:
        """Go on with a run beyond its end.

        The minutes become steps at the speed that the run has had so far, validations included;
        its learning rate follows the new length.

        Args:
            name: Name of the run.
            minutes: How much longer, as the visitor gives it.

        Raises:
            ServeError: When a run is running, there is none of that name, or the minutes are none.
        """
        with self._lock:
            self._check_free()
            run = self.run_folder(name)
            progress, config = read_progress(run / LATEST), settings_of(run)
            end = max(progress.step, progress.total_steps or 0)
            steps = end + more_steps(minutes, progress.step, progress.seconds)
            length = {"minutes": None, "steps": steps}
            training = config.training.model_copy(update=length)
            self._go_on(run, progress.kind, config.model_copy(update={"training": training}),
                        "training.minutes=null", f"training.steps={steps}")

    def _go_on(self, run: Path, kind: str, config: Config, *settings: str) -> None:
        command = shlex.join(["gan-denoise", kind, "--config", str(run / SETTINGS), "--run",
                              str(run), *settings])
        self._launch(TRAINING, run, command, train_run, run, kind, config, None)

    def export(self, name: str) -> None:
        """Export the best state of a run and offer it as a model.

        Raises:
            ServeError: When a run is running, or this one has no best state yet.
        """
        with self._lock:
            self._check_free()
            run = self.run_folder(name)
            if not (run / BEST).is_file():
                raise ServeError(f"{name} has not been validated yet", "train on", 409)
            self._launch(EXPORTING, run, "", export_run, run, self.runs / EXPORTED / name)

    def stop(self) -> None:
        """Ask the run to save its state at the next step and end; again: end at once."""
        with self._lock:
            if self._process is None or self._state not in (TRAINING, STOPPING):
                raise ServeError("nothing is being trained", status=409)
            again, self._state = self._state == STOPPING, STOPPING
            if again:
                self._process.kill()
            else:
                self._interruption.send(self._process)

    def close(self) -> None:
        """End the process, after its state is saved where there is time."""
        with self._lock:
            process, reader = self._process, self._reader
            if process is None:
                return
            if self._state == TRAINING:
                self.stop()
        process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()
        if reader is not None:
            reader.join()

    def to_json(self) -> dict[str, object]:
        """Return what the page shows: the state, how far the run is, how the last one ended."""
        with self._lock:
            return {"state": self._state, "run": self._run, "command": self._command,
                    "progress": dict(self._progress), "log": list(self._log),
                    "outcome": self._outcome, "words": self._words}

    def _check_free(self) -> None:
        if not self.offered:
            raise ServeError("this server trains nothing", "start it with --data FOLDER", 403)
        if self.missing:
            raise ServeError(f"training needs {', '.join(self.missing)}",
                             "pip install 'gan-denoise[train]' on the server", 501)
        if self._state != IDLE:
            raise ServeError(f"{self._run} is {self._state}: one run at a time",
                             "wait until it has ended, or stop it", 409)

    def _launch(
        self, state: str, run: Path, command: str, target: Callable[..., None], *arguments: object
    ) -> None:
        """Start a process, and a thread that takes its messages."""
        context = multiprocessing.get_context("spawn")  # a fork with threads may hang
        pipe, child = context.Pipe(duplex=False)
        self._interruption = Interruption(context)
        process = context.Process(target=target, args=(child, self._interruption, *arguments))
        process.start()
        child.close()
        self._process, self._state, self._run, self._command = process, state, run.name, command
        self._outcome, self._words, self._progress = "", "", {}
        self._log.clear()
        self._reader = threading.Thread(target=self._read, args=(pipe, process, state), daemon=True)
        self._reader.start()

    def _read(self, pipe: Connection, process: SpawnProcess, state: str) -> None:
        outcome, words = FAILED, ""
        with pipe, contextlib.suppress(EOFError, OSError):  # it has ended, maybe amid a message
            while True:
                kind, content = pipe.recv()
                with self._lock:
                    if kind == LOG:
                        self._log.append(content)
                    elif kind == PROGRESS:
                        self._progress = content
                    else:
                        outcome, words = kind, content
        process.join()
        with self._lock:
            if not words and self._state == STOPPING:
                outcome, words = STOPPED, "stopped at once; the last saved state stays"
            if state == EXPORTING and outcome == DONE:
                words = f"model {self.models.add(self.runs / EXPORTED / self._run)}"
            self._outcome = outcome
            self._words = words or f"the process ended ({exit_text(process.exitcode)})"
            self._state, self._process = IDLE, None
