"""A training run: start or resume, the loop, checkpoints, roll-backs.

Order of initialisation: the run directory's own state, else the weights of `init`, else scratch.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from gan_denoise.cli import console as consoles
from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import BEST, LATEST, SETTINGS
from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import Config
from gan_denoise.core.atomic_files import (
    write_atomically,
)
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.data.datasets import Material, batches, load_material
from gan_denoise.models.generators import build_generator
from gan_denoise.training.checkpoints import (
    CheckpointError,
    can_resume,
    load_state,
    read_progress,
    save_state,
)
from gan_denoise.training.initialization import load_weights
from gan_denoise.training.monitor import Finding, Monitor, beats_trivial, summary
from gan_denoise.training.preflight import check_readiness
from gan_denoise.training.trackers import ConsoleReport, open_trackers, set_aside
from gan_denoise.training.trainer import Trainer, set_up

WARM_STEPS = 10  # not timed: tracing, caches
TIMED_STEPS = 50  # their speed turns `training.minutes` into a number of steps
MAX_ROLLBACKS = 3  # this one ends the run
MAX_RESTARTS = 2  # of a dead start
RESTART_SEEDS = 1000  # from the seed of one initialisation to that of the next
SHOWN_CLIPS = 3  # by trackers
OnValidation = Callable[[int, Mapping[str, float]], None]


class TrainingError(GanDenoiseError):
    """Training cannot go on; says what was seen, at which steps, and the way out."""

    exit_code = 1  # the work was begun and has failed


@dataclass(frozen=True)
class Result:
    """What a finished run has to say.

    Attributes:
        run_dir: Its directory.
        step: Steps done.
        best: Validation values of `best.npz`.
        last: Named values of the last step.
        audio_speed: Seconds of audio trained a second, over the last steps; 0 without steps.
        wait_share: Share of that time spent waiting for data.
        restarts: Dead starts that came before; as in `checkpoint.Progress`.
    """

    run_dir: Path
    step: int
    best: Mapping[str, float]
    last: Mapping[str, float]
    audio_speed: float
    wait_share: float
    restarts: tuple[Mapping[str, Any], ...] = ()


def train(
    config: Config,
    run_dir: Path,
    kind: str = "pretrain",
    init: Path | None = None,
    console: Any = None,
    material: Material | None = None,
    on_validation: OnValidation | None = None,
) -> Result:
    """Train until `training.steps` or `training.minutes`, whichever ends first.

    The same call resumes a run that was interrupted.

    Args:
        config: Settings.
        run_dir: Directory of the run; made where there is none.
        kind: `pretrain` or `finetune`.
        init: Run or model folder whose weights a new run starts from.
        console: Rich console for progress; None: stderr.
        material: Training material; None: what `config.data` names.
        on_validation: Called with the step and its values after each validation; what it raises
            ends the run, which the same call resumes from its last checkpoint.

    Raises:
        ReadinessError, ConfigError, CheckpointError, AudioError, PairError, TrackingError: Before
            the first step.
        TrainingError: When losses stay non-finite, or the generator is dead and stays so.
    """
    check_readiness(config, kind)
    run_dir = Path(run_dir)
    console = console or consoles.console(stderr=True)
    resuming = can_resume(run_dir, config, kind)
    if not resuming and init is not None:
        settings_of(Path(init))  # an error now, not after minutes of decoding
    set_up(config.training)
    build_generator(config)  # the same
    if material is None:
        material = load_material(config, consoles.decoding(console))

    def start(seed: int, resumed: bool = False) -> Trainer:
        keras.utils.set_random_seed(seed)
        trainer = Trainer(config, material, kind)
        if init is not None and not resumed:
            judge = load_weights(trainer, Path(init))
            loaded = "both networks" if judge else "the generator; a discriminator starts anew"
            console.print(f"weights from {init}: {loaded}", highlight=False, soft_wrap=True)
        return trainer

    trainer = start(config.training.seed, resuming)
    if resuming:
        _resume(trainer, run_dir, console)
    text = dump_config(config).encode()
    write_atomically(run_dir / SETTINGS, lambda file: file.write(text))
    for notice in material.notices:
        console.print(notice, highlight=False, soft_wrap=True)
    console.print(f"{material.summary}; {trainer.generator.count_params():,} parameters",
                  highlight=False)
    return _Loop(trainer, start, run_dir, console, on_validation).fit()


def _resume(trainer: Trainer, run_dir: Path, console: Any) -> None:
    stored = read_progress(run_dir / LATEST)
    if stored.data_digest != trainer.progress.data_digest:
        raise CheckpointError(
            f"{run_dir}: the training material is not the one that this run was started with; "
            "give the same recordings, or another --run folder"
        )
    trainer.progress = load_state(run_dir / LATEST, trainer.variables())
    console.print(
        f"resumed {run_dir} at step {trainer.progress.step}: networks, optimizer moments, EMA, "
        f"schedule and history of {len(trainer.progress.history)} validations restored",
        highlight=False, soft_wrap=True,
    )


class _Loop:
    """The loop over steps, and what happens between them.

    Args:
        trainer: As it is to go on.
        start: Makes another trainer, from the seed of its initialisation.
        run_dir: Directory of the run.
        console: Rich console for progress.
        on_validation: As of `train`.
    """

    def __init__(
        self, trainer: Trainer, start: Callable[[int], Trainer], run_dir: Path, console: Any,
        on_validation: OnValidation | None,
    ):
        self.trainer, self.start = trainer, start
        self.run_dir, self.on_validation = run_dir, on_validation
        self.training = trainer.config.training
        self.progress = trainer.progress
        self.monitor = self._watching()
        self.sitting = time.monotonic()
        for left in run_dir.glob(f".{LATEST}.*"):  # of a save that was killed
            left.unlink()
        if not (run_dir / LATEST).is_file():
            self._save(LATEST)  # so that there is a state to go back to
        if self.training.steps is not None and self.training.minutes is None:
            self.progress.total_steps = self.training.steps
        elif self.training.steps is not None and self.progress.total_steps is not None:
            self.progress.total_steps = min(self.progress.total_steps, self.training.steps)
        self.trackers = open_trackers(trainer.config, run_dir)
        self.report = ConsoleReport(console, self.training.batch_size * self.training.crop_seconds)
        self.step_times: list[float] = []
        self.validation_seconds = 0.0
        self.last: dict[str, float] = {}

    def fit(self) -> Result:
        try:
            with self.report, _Interrupt() as interrupt:
                while not self._finished() and not interrupt.asked:
                    try:
                        self._steps(interrupt)
                    except _DeadStart as dead:
                        self._begin_again(dead.finding)
            if interrupt.asked:
                self._save(LATEST)
                self.report.say(
                    f"interrupted at step {self.progress.step}; the same command resumes"
                )
                raise KeyboardInterrupt
        finally:
            for tracker in self.trackers:
                tracker.close()
            if self.trainer.adversary is not None:
                self.trainer.adversary.close()
        stored = self.run_dir / BEST
        best = read_progress(stored).history[-1] if stored.is_file() else {}
        return Result(self.run_dir, self.progress.step, best, self.last, self.report.audio_speed,
                      self.report.wait_share, tuple(self.progress.restarts))

    def _steps(self, interrupt: _Interrupt) -> None:
        iterator = iter(batches(self.trainer.material.train, self.trainer.config,
                                self.progress.step))
        while not self._finished() and not interrupt.asked:
            before = time.monotonic()
            number, noisy, clean = next(iterator)
            begun = time.monotonic()
            step = int(number)
            values = self.trainer.train_step(step, noisy, clean)
            self.progress.step = step + 1
            if values.pop("finite") < 0.5:
                self._bad_step(step, values)
            else:
                self.progress.bad_in_row = 0
                self.last = values
                self._time(time.monotonic() - before)
            self.report.step(step + 1, self.progress.total_steps, values,
                             time.monotonic() - before, begun - before)
            if (step + 1) % self.training.log_every == 0:
                shown = values | {
                    "speed/audio_seconds_per_second": self.report.audio_speed,
                    "speed/waiting_for_data": self.report.wait_share,
                }
                for tracker in self.trackers:
                    tracker.scalars(step + 1, shown)
            if not self.progress.bad_in_row:
                self._act(self.monitor.after_step(values))
            if (step + 1) % self.training.validate_every == 0 or self._finished():
                self._validate(noisy, clean)
            # Never amid failing steps: a roll-back must go behind the first of them.
            due = (step + 1) % self.training.checkpoint_every == 0 and not self.progress.bad_in_row
            if due or self._finished():
                self._save(LATEST)

    def _finished(self) -> bool:
        limits = (self.progress.total_steps, self.training.steps)
        return any(limit is not None and self.progress.step >= limit for limit in limits)

    # ---- Time ----------------------------------------------------------------------------------
    def _time(self, seconds: float) -> None:
        """Once the speed is known, turn `training.minutes` into the total of the schedules."""
        self.step_times.append(seconds)
        if self.progress.total_steps is not None or self.training.minutes is None:
            return
        if len(self.step_times) < WARM_STEPS + TIMED_STEPS:
            return
        warmup = self.trainer.config.losses.discriminator_warmup
        if self.trainer.kind == "finetune" and self.progress.step <= warmup + TIMED_STEPS:
            return  # the warm-up's steps are cheaper than those that follow
        begun = time.monotonic()
        self.trainer.validate()
        self.validation_seconds = time.monotonic() - begun
        a_step = float(np.mean(self.step_times[-TIMED_STEPS:]))
        a_step += self.validation_seconds / self.training.validate_every
        spent = self.progress.seconds + time.monotonic() - self.sitting
        left = self.training.minutes * 60 - spent
        total = self.progress.step + max(int(left / a_step), 1)
        self.progress.total_steps = min(total, self.training.steps or total)
        self.report.say(f"{1 / a_step:.1f} steps a second: {self.training.minutes:g} minutes are "
                        f"{self.progress.total_steps} steps")

    # ---- Validation and checkpoints ------------------------------------------------------------
    def _rank(self, values: Mapping[str, float]) -> float:
        return values.get(self.training.select_by, -math.inf)

    def _validate(self, noisy: Any, clean: Any) -> None:
        values, shown = self.trainer.validate()
        if self.trainer.kind == "finetune":
            values |= {k: v for k, v in self.last.items() if k.startswith("discriminator/")}
            values["adversarial_share"] = (
                self.trainer.adversarial_share(self.progress.step, noisy, clean)
            )
        step = self.progress.step
        self.progress.history.append(
            {"step": step} | {k: v for k, v in values.items() if math.isfinite(v)}
        )
        score = self._rank(self.progress.history[-1])
        # What was trained on chooses nothing: then the last state is taken.
        better = (self.progress.best is None or score > self.progress.best
                  or self.trainer.config.data.merge_validation)
        if better:
            self.progress.best = score if math.isfinite(score) else None
            self._save(BEST)
        mels, audio = ({name: part[:SHOWN_CLIPS] for name, part in shown[what].items()}
                       for what in ("mels", "audio"))
        for tracker in self.trackers:
            tracker.scalars(step, {f"valid/{name}": value for name, value in values.items()})
            tracker.clips(step, mels, audio)
        shown = {k: v for k, v in self.progress.history[-1].items() if k != "step"}
        self.report.say(f"step {step} validation: {summary(shown)}{' · best' if better else ''}")
        self._act(self.monitor.after_validation(self.progress.history, last=self._finished()))
        if self.on_validation is not None:
            self.on_validation(step, values)

    def _save(self, name: str) -> None:
        self.progress.seconds += time.monotonic() - self.sitting
        self.sitting = time.monotonic()
        save_state(self.run_dir / name, self.trainer.variables(), self.progress)

    # ---- Dead generators -----------------------------------------------------------------------
    def _watching(self) -> Monitor:
        return Monitor(self.trainer.config, self.trainer.kind, self.progress.watch)

    def _act(self, findings: Sequence[Finding]) -> None:
        """Say what the monitor has found, and end the attempt where the generator is dead."""
        if not self.training.watch:
            return
        step = self.progress.step
        for finding in findings:
            self.report.say(f"step {step} warning: {finding.text}")
            for tracker in self.trackers:
                tracker.text(step, f"watch/{finding.name}", finding.text)
        for finding in findings:
            if finding.dead:
                raise _DeadStart(finding)

    def _begin_again(self, finding: Finding) -> None:
        """Start from another initialisation; give up where that makes no sense or did not help."""
        progress, training = self.progress, self.training
        alive = [row["step"] for row in progress.history if beats_trivial(row, training.select_by)]
        way_out = (
            f"Lower training.learning_rate (now {training.learning_rate:g}) or lengthen "
            f"training.warmup_steps ({training.warmup_steps}); generator.batch_norm=true or a "
            "deeper generator.gain_floor_db make a start easier; training.watch=false lets a run "
            "go on whatever it does"
        )
        if alive:
            raise TrainingError(
                f"{self.run_dir}: step {progress.step}: {finding.text}. It was alive at step "
                f"{alive[-1]}, and {BEST} holds its best state. {way_out}, and start a new run"
            )
        if len(progress.restarts) == MAX_RESTARTS:
            raise TrainingError(
                f"{self.run_dir}: the generator is dead after {MAX_RESTARTS + 1} starts (step "
                f"{progress.step}: {finding.text}). {way_out}"
            )
        number = len(progress.restarts) + 1
        seed = training.seed + RESTART_SEEDS * number
        restarts = [*progress.restarts,
                    {"step": progress.step, "reason": finding.text, "seed": seed}]
        self.report.say(f"dead start: begins again from another initialisation (seed {seed}), "
                        f"{number} of at most {MAX_RESTARTS}")
        if self.trainer.adversary is not None:
            self.trainer.adversary.close()
        self.trainer = self.start(seed)
        self.progress = self.trainer.progress
        self.progress.restarts = restarts
        self.progress.seconds, self.progress.total_steps = progress.seconds, progress.total_steps
        self.monitor = self._watching()
        self._save(LATEST)
        (self.run_dir / BEST).unlink(missing_ok=True)
        for tracker in self.trackers:
            tracker.close()
        set_aside(self.run_dir, f"dead-start-{number}")
        self.trackers = open_trackers(self.trainer.config, self.run_dir)

    # ---- Trouble -------------------------------------------------------------------------------
    def _bad_step(self, step: int, values: Mapping[str, float]) -> None:
        """Skip a non-finite step; after a few in a row go back to the last checkpoint."""
        self.progress.bad_steps += 1
        self.progress.bad_in_row += 1
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        terms = ", ".join(bad) or "the gradient"
        self.report.say(f"step {step}: {terms} not finite; step skipped")
        if self.progress.bad_in_row < self.training.max_bad_steps:
            return
        # The weights go back; the counters go on, so the run continues behind the failing steps.
        kept = self.progress
        state = load_state(self.run_dir / LATEST, self.trainer.variables())
        kept.rollbacks += 1
        kept.bad_in_row = 0
        kept.skipped.append([state.step, step])
        self._save(LATEST)
        if kept.rollbacks >= MAX_ROLLBACKS:
            raise TrainingError(
                f"{terms} not finite again at steps {step - self.training.max_bad_steps + 1} to "
                f"{step}, roll-back number {kept.rollbacks} of this run (skipped steps: "
                f"{kept.skipped}). Lower training.learning_rate or losses.adversarial_weight, or "
                "check the data with gan-denoise check, and start a new run"
            )
        self.report.say(f"went back to the state of step {state.step}, going on behind step {step}")


class _DeadStart(Exception):
    """Ends an attempt whose generator is dead."""

    def __init__(self, finding: Finding):
        super().__init__(finding.text)
        self.finding = finding


class _Interrupt:
    """Ctrl-C between two steps, not within one: a state holds whole steps. Twice: at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> _Interrupt:
        self._former = None
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)

    def _note(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
