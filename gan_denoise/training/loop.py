"""A training run: start or resume, the loop over steps, validation, checkpoints, roll-backs.

Order of initialisation: the run directory's own state, else the weights of `init`, else scratch.
What happens is logged; how far the run is goes to a callback.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import BEST, LATEST, SETTINGS
from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import Config
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.native_libraries import stderr_kept_back
from gan_denoise.data.datasets import Material, batches, load_material
from gan_denoise.models.generators import build_generator
from gan_denoise.training.checkpoints import (
    CheckpointError,
    can_resume,
    load_state,
    read_progress,
    save_state,
)
from gan_denoise.training.errors import TrainingError
from gan_denoise.training.initialization import load_weights
from gan_denoise.training.interrupt import Interrupt
from gan_denoise.training.monitor import Finding, Monitor, summary
from gan_denoise.training.preflight import check_readiness
from gan_denoise.training.progress import (
    OnProgress,
    Speedometer,
    TrainingProgress,
    log_decoding,
)
from gan_denoise.training.restarts import MAX_RESTARTS, RESTART_SEEDS, DeadStart, refuse_restart
from gan_denoise.training.trackers import open_trackers, set_aside
from gan_denoise.training.trainer import Trainer, set_up

WARM_STEPS = 10  # not timed: tracing, caches
TIMED_STEPS = 50  # their speed turns `training.minutes` into a number of steps
MAX_ROLLBACKS = 3  # this one ends the run
SHOWN_CLIPS = 3  # by trackers
KINDS = ("pretrain", "finetune")

Kind = Literal["pretrain", "finetune"]
OnValidation = Callable[[int, Mapping[str, float]], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes:
        run_dir: Its directory.
        step: Steps done.
        best: Validation values of `best.npz`, and their `step`.
        last: Named values of the last step.
        audio_speed: Seconds of audio trained a second, over the last steps; 0 without steps.
        wait_share: Share of that time spent waiting for data, in [0, 1].
        restarts: Dead starts that came before: the `step` at which each was found, the `reason`,
            and the `seed` of the initialisation that followed.
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
    run_dir: str | Path,
    kind: Kind = "pretrain",
    init: str | Path | None = None,
    *,
    progress: OnProgress | None = None,
    on_validation: OnValidation | None = None,
    material: Material | None = None,
) -> TrainingResult:
    """Train until `training.steps` or `training.minutes`, whichever ends first.

    The same call resumes a run that was interrupted. Nothing is printed: lines go to the logger
    `gan_denoise.training.loop`.

    Args:
        config: Settings.
        run_dir: Directory of the run; made where there is none.
        kind: `pretrain`, or `finetune` for training against a discriminator.
        init: Run or model folder whose weights a new run starts from.
        progress: Called before the first step and after each.
        on_validation: Called with the step and its values after each validation; what it raises
            ends the run, which the same call resumes from its last checkpoint.
        material: Training material; None: what `config.data` names.

    Raises:
        ReadinessError, ConfigError, CheckpointError, AudioError, PairError, TrackingError: Before
            the first step.
        TrainingError: When losses stay non-finite, or the generator is dead and stays so.
        KeyboardInterrupt: After Ctrl-C, once the state is saved.
    """
    if kind not in KINDS:
        raise TrainingError(f"there is no '{kind}' training", f"take {' or '.join(KINDS)}")
    check_readiness(config, kind)
    run_dir, source = Path(run_dir), None if init is None else Path(init)
    resuming = can_resume(run_dir, config, kind)
    if not resuming and source is not None:
        settings_of(source)  # an error now, not after minutes of decoding
    set_up(config.training)
    build_generator(config)  # the same
    data = load_material(config, log_decoding()) if material is None else material

    def new_trainer(seed: int, resumed: bool = False) -> Trainer:
        keras.utils.set_random_seed(seed)
        trainer = Trainer(config, data, kind)
        if source is not None and not resumed:
            both = load_weights(trainer, source)
            loaded = "both networks" if both else "the generator; a discriminator starts anew"
            logger.info("weights from %s: %s", source, loaded)
        return trainer

    trainer = new_trainer(config.training.seed, resuming)
    if resuming:
        _resume(trainer, run_dir)
    text = dump_config(config).encode()
    write_atomically(run_dir / SETTINGS, lambda file: file.write(text))
    for notice in data.notices:
        logger.warning("%s", notice)
    logger.info("%s; %s parameters", data.summary, f"{trainer.generator.count_params():,}")
    return _Loop(trainer, new_trainer, run_dir, progress, on_validation).run()


def _resume(trainer: Trainer, run_dir: Path) -> None:
    stored = read_progress(run_dir / LATEST)
    if stored.data_digest != trainer.progress.data_digest:
        raise CheckpointError(
            f"{run_dir}: the training material is not the one that this run was started with",
            "give the same recordings, or another --run folder",
        )
    trainer.progress = load_state(run_dir / LATEST, trainer.variables())
    logger.info(
        "resumed %s at step %d: networks, optimizer moments, EMA, schedule and history of %d "
        "validations restored", run_dir, trainer.progress.step, len(trainer.progress.history),
    )


class _Loop:
    """The loop over steps, and what happens between them.

    Args:
        trainer: New, or with the state to resume from.
        new_trainer: Makes another trainer, from the seed of its initialisation.
        run_dir: Directory of the run.
        on_progress: See `progress` of `train`.
        on_validation: See `train`.
    """

    def __init__(
        self, trainer: Trainer, new_trainer: Callable[[int], Trainer], run_dir: Path,
        on_progress: OnProgress | None, on_validation: OnValidation | None,
    ):
        self.trainer, self.new_trainer = trainer, new_trainer
        self.run_dir, self.on_progress, self.on_validation = run_dir, on_progress, on_validation
        self.training = trainer.config.training
        self.progress = trainer.progress
        self.monitor = self._new_monitor()
        self.clock = time.monotonic()  # up to which `progress.seconds` counts
        for left in run_dir.glob(f".{LATEST}.*"):  # of a save that was killed
            left.unlink()
        if not (run_dir / LATEST).is_file():
            self._save(LATEST)  # so that there is a state to go back to
        if self.training.steps is not None and self.training.minutes is None:
            self.progress.total_steps = self.training.steps
        elif self.training.steps is not None and self.progress.total_steps is not None:
            self.progress.total_steps = min(self.progress.total_steps, self.training.steps)
        self.trackers = open_trackers(trainer.config, run_dir)
        self.speed = Speedometer(self.training.batch_size * self.training.crop_seconds)
        self.step_times: list[float] = []
        self.last: dict[str, float] = {}

    def run(self) -> TrainingResult:
        try:
            with Interrupt() as interrupt:
                self._show({})
                while not self._finished() and not interrupt.asked:
                    try:
                        self._steps(interrupt)
                    except DeadStart as dead:
                        self._restart(dead.finding)
            if interrupt.asked:
                self._save(LATEST)
                logger.info("interrupted at step %d; the same command resumes", self.progress.step)
                raise KeyboardInterrupt
        finally:
            for tracker in self.trackers:
                tracker.close()
            if self.trainer.adversary is not None:
                self.trainer.adversary.close()
        stored = self.run_dir / BEST
        best = read_progress(stored).history[-1] if stored.is_file() else {}
        return TrainingResult(self.run_dir, self.progress.step, best, self.last,
                              self.speed.audio_speed, self.speed.wait_share,
                              tuple(self.progress.restarts))

    def _steps(self, interrupt: Interrupt) -> None:
        dataset = batches(self.trainer.material.train, self.trainer.config, self.progress.step)
        with stderr_kept_back():  # TensorFlow warns of what it rewrites for op determinism
            iterator = iter(dataset)
        while not self._finished() and not interrupt.asked:
            before = time.monotonic()
            number, noisy, clean = next(iterator)
            waited = time.monotonic() - before
            step = int(number)
            values = self.trainer.train_step(step, noisy, clean)
            self.progress.step = step + 1
            if values.pop("finite") < 0.5:
                self._skip_step(step, values)
            else:
                self.progress.bad_in_row = 0
                self.last = values
                self._set_total_steps(time.monotonic() - before)
            self.speed.add(time.monotonic() - before, waited)
            self._show(values)
            if (step + 1) % self.training.log_every == 0:
                shown = values | {
                    "speed/audio_seconds_per_second": self.speed.audio_speed,
                    "speed/waiting_for_data": self.speed.wait_share,
                }
                for tracker in self.trackers:
                    tracker.scalars(step + 1, shown)
            if not self.progress.bad_in_row:
                self._report_findings(self.monitor.after_step(values))
            if (step + 1) % self.training.validate_every == 0 or self._finished():
                self._validate(noisy, clean)
            # Never amid failing steps: a roll-back must go behind the first of them.
            due = (step + 1) % self.training.checkpoint_every == 0 and not self.progress.bad_in_row
            if due or self._finished():
                self._save(LATEST)

    def _show(self, values: Mapping[str, float]) -> None:
        if self.on_progress is None:
            return
        losses = {name: value for name, value in values.items()
                  if name.startswith(("loss/", "discriminator/"))}
        self.on_progress(TrainingProgress(
            self.progress.step, self.progress.total_steps, losses, self.speed.steps_per_second,
            self.speed.audio_speed, self.speed.wait_share,
        ))

    def _finished(self) -> bool:
        limits = (self.progress.total_steps, self.training.steps)
        return any(limit is not None and self.progress.step >= limit for limit in limits)

    # ---- Time ----------------------------------------------------------------------------------
    def _set_total_steps(self, seconds: float) -> None:
        """Once the speed is known, turn `training.minutes` into a number of steps.

        Args:
            seconds: Length of the last step.
        """
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
        validation = time.monotonic() - begun
        a_step = float(np.mean(self.step_times[-TIMED_STEPS:]))
        a_step += validation / self.training.validate_every
        spent = self.progress.seconds + time.monotonic() - self.clock
        left = self.training.minutes * 60 - spent
        total = self.progress.step + max(int(left / a_step), 1)
        self.progress.total_steps = min(total, self.training.steps or total)
        logger.info("%.1f steps a second: %g minutes are %d steps", 1 / a_step,
                    self.training.minutes, self.progress.total_steps)

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
        measured = {k: v for k, v in self.progress.history[-1].items() if k != "step"}
        logger.info("step %d validation: %s%s", step, summary(measured),
                    " · best" if better else "")
        self._report_findings(
            self.monitor.after_validation(self.progress.history, last=self._finished())
        )
        if self.on_validation is not None:
            self.on_validation(step, values)

    def _save(self, name: str) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now
        save_state(self.run_dir / name, self.trainer.variables(), self.progress)

    # ---- Dead generators -----------------------------------------------------------------------
    def _new_monitor(self) -> Monitor:
        return Monitor(self.trainer.config, self.trainer.kind, self.progress.watch)

    def _report_findings(self, findings: Sequence[Finding]) -> None:
        """Log what the monitor has found, and end the attempt where the generator is dead."""
        if not self.training.watch:
            return
        step = self.progress.step
        for finding in findings:
            logger.warning("step %d warning: %s", step, finding.text)
            for tracker in self.trackers:
                tracker.text(step, f"watch/{finding.name}", finding.text)
        for finding in findings:
            if finding.dead:
                raise DeadStart(finding)

    def _restart(self, finding: Finding) -> None:
        """Start from another initialisation; give up where that makes no sense or did not help."""
        refuse_restart(self.run_dir, self.progress, self.training, finding)
        before, number = self.progress, len(self.progress.restarts) + 1
        seed = self.training.seed + RESTART_SEEDS * number
        logger.warning("dead start: begins again from another initialisation (seed %d), %d of at "
                       "most %d", seed, number, MAX_RESTARTS)
        if self.trainer.adversary is not None:
            self.trainer.adversary.close()
        self.trainer = self.new_trainer(seed)
        self.progress = self.trainer.progress
        self.progress.restarts = [*before.restarts, {"step": before.step, "reason": finding.text,
                                                     "seed": seed}]
        self.progress.seconds, self.progress.total_steps = before.seconds, before.total_steps
        self.monitor = self._new_monitor()
        self._save(LATEST)
        (self.run_dir / BEST).unlink(missing_ok=True)
        for tracker in self.trackers:
            tracker.close()
        set_aside(self.run_dir, f"dead-start-{number}")
        self.trackers = open_trackers(self.trainer.config, self.run_dir)

    # ---- Steps that are not finite -------------------------------------------------------------
    def _skip_step(self, step: int, values: Mapping[str, float]) -> None:
        """Skip a non-finite step; after a few in a row go back to the last checkpoint."""
        self.progress.bad_steps += 1
        self.progress.bad_in_row += 1
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        terms = ", ".join(bad) or "the gradient"
        logger.warning("step %d: %s not finite; step skipped", step, terms)
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
                f"{kept.skipped})",
                "lower training.learning_rate or losses.adversarial_weight, or check the data with "
                "gan-denoise check, and start a new run",
            )
        logger.warning("went back to the state of step %d, going on behind step %d", state.step,
                       step)
