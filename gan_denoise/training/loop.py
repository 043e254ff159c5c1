"""A training run: start or resume, the loop over steps, and what follows where one goes wrong.

Order of initialisation: the run directory's own state, else the weights of `init`, else scratch.
What happens is logged; how far the run is goes to a callback. With several workers each runs this
loop: the chief decides, and alone reads and writes the run directory.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from gan_denoise.config.artifacts import LATEST
from gan_denoise.config.schema import Config
from gan_denoise.core.native_libraries import stderr_kept_back
from gan_denoise.data.datasets import Material, batches
from gan_denoise.training.checkpoints import Restart, load_state
from gan_denoise.training.distributed import make_replicas
from gan_denoise.training.errors import TrainingError
from gan_denoise.training.interrupt import Interrupt
from gan_denoise.training.keeper import Keeper, OnValidation, best_values
from gan_denoise.training.monitor import Finding
from gan_denoise.training.preflight import check_readiness
from gan_denoise.training.progress import OnProgress, Speedometer, TrainingProgress
from gan_denoise.training.restarts import MAX_RESTARTS, RESTART_SEEDS, DeadStart, refuse_restart
from gan_denoise.training.start import Start
from gan_denoise.training.trainer import Trainer, set_up

if TYPE_CHECKING:
    import tensorflow as tf

WARM_STEPS = 10  # not timed: tracing, caches
TIMED_STEPS = 50  # their speed turns `training.minutes` into a number of steps
MAX_ROLLBACKS = 3  # this one ends the run
KINDS = ("pretrain", "finetune")

Kind = Literal["pretrain", "finetune"]
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
    restarts: tuple[Restart, ...] = ()


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
        KeyboardInterrupt: After Ctrl-C, SIGTERM or SIGHUP, once the state is saved.
    """
    if kind not in KINDS:
        raise TrainingError(f"there is no '{kind}' training", f"take {' or '.join(KINDS)}")
    check_readiness(config, kind)
    set_up(config.training)
    replicas = make_replicas(config.training)
    logger.info("%s", replicas.summary())
    with replicas.watched(), contextlib.ExitStack() as until:
        start = Start(config, Path(run_dir), kind, None if init is None else Path(init), replicas)
        trainer = start.first_trainer(material, until)
        return _Loop(trainer, start.trainer, Path(run_dir), progress, on_validation).run()


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
        self.trainer, self.new_trainer, self.replicas = trainer, new_trainer, trainer.replicas
        self.run_dir, self.on_progress = run_dir, on_progress
        self.training, self.progress = trainer.config.training, trainer.progress
        if self.training.steps is not None and self.training.minutes is None:
            self.progress.total_steps = self.training.steps
        elif self.training.steps is not None and self.progress.total_steps is not None:
            self.progress.total_steps = min(self.progress.total_steps, self.training.steps)
        self.keeper = Keeper(trainer, run_dir, on_validation) if self.replicas.chief else None
        self.speed = Speedometer(self.training.batch_size * self.training.accumulate
                                 * self.training.crop_seconds)
        self.step_times: deque[float] = deque(maxlen=WARM_STEPS + TIMED_STEPS)  # seconds
        self.last: dict[str, float] = {}
        self.stopped = False

    def run(self) -> TrainingResult:
        try:
            with Interrupt() as interrupt:
                self._show({})
                if self._finished():
                    logger.info("all %d steps are done: nothing is left to train%s",
                                self.progress.step, "" if self.training.minutes is not None
                                else "; a larger training.steps trains on")
                while not self._finished() and not self.stopped:
                    try:
                        self._steps(interrupt)
                    except DeadStart as dead:
                        self._restart(dead.finding)
            if self.stopped:
                self._save()
                logger.info("interrupted at step %d; the same command resumes", self.progress.step)
                raise interrupt.error()
        finally:
            if self.keeper is not None:
                self.keeper.close()
            if self.trainer.adversary is not None:
                self.trainer.adversary.close()
        # Others wait for the last checkpoint here.
        best = self.replicas.from_chief(lambda: best_values(self.run_dir))
        return TrainingResult(self.run_dir, self.progress.step, best, self.last,
                              self.speed.audio_speed, self.speed.wait_share,
                              tuple(self.progress.restarts))

    def _steps(self, interrupt: Interrupt) -> None:
        items = self.replicas.items(self.training.batch_size, self.training.accumulate)
        dataset = batches(self.trainer.material.train, self.trainer.config, self.progress.step,
                          items)
        with stderr_kept_back():  # TensorFlow warns of what it rewrites for op determinism
            iterator = iter(dataset)
        while not self._finished() and not self.stopped:
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
            dead = self.keeper.after_step(values, self.speed) if self.keeper is not None else None
            self.stopped, ended = self.replicas.any(interrupt.requested, dead is not None)
            if ended:
                raise DeadStart(dead)
            if (step + 1) % self.training.validate_every == 0 or self._finished():
                self._validate(noisy, clean)
            # Never amid failing steps: a roll-back must go behind the first of them.
            due = (step + 1) % self.training.checkpoint_every == 0 and not self.progress.bad_in_row
            if due or self._finished():
                self._save()

    def _validate(self, noisy: tf.Tensor, clean: tf.Tensor) -> None:
        found: list[Finding] = []

        def validated() -> bool:
            assert self.keeper is not None  # called on the chief alone
            dead = self.keeper.validate(noisy, clean, self.last, self._finished())
            found.extend([dead] if dead else [])
            return dead is not None

        if self.replicas.from_chief(validated):
            raise DeadStart(found[0] if found else None)

    def _save(self) -> None:
        """Write the state to go back to and to resume from."""
        if self.keeper is not None:
            self.keeper.save(LATEST)

    def _show(self, values: Mapping[str, float]) -> None:
        if self.on_progress is None or not self.replicas.chief:
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
        self.progress.total_steps = self.replicas.from_chief(self._steps_in_time)

    def _steps_in_time(self) -> int:
        assert self.training.minutes is not None
        assert self.keeper is not None  # called on the chief alone
        begun = time.monotonic()
        self.trainer.validate()
        validation = time.monotonic() - begun
        a_step = float(np.mean([*self.step_times][-TIMED_STEPS:]))
        a_step += validation / self.training.validate_every
        left = self.training.minutes * 60 - self.keeper.seconds()
        total = self.progress.step + max(int(left / a_step), 1)
        total = min(total, self.training.steps or total)
        logger.info("%.1f steps a second: %g minutes are %d steps", 1 / a_step,
                    self.training.minutes, total)
        return total

    # ---- Dead generators -----------------------------------------------------------------------
    def _restart(self, finding: Finding | None) -> None:
        """Start from another initialisation; give up where that makes no sense or did not help.

        Args:
            finding: What the monitor has found; None where this is not the chief.
        """
        def decide() -> list[Restart]:
            assert finding is not None  # called on the chief alone
            refuse_restart(self.run_dir, self.progress, self.training, finding)
            seed = self.training.seed + RESTART_SEEDS * (len(self.progress.restarts) + 1)
            return [*self.progress.restarts, {"step": self.progress.step, "reason": finding.text,
                                              "seed": seed}]

        before, restarts = self.progress, self.replicas.from_chief(decide)
        number, seed = len(restarts), restarts[-1]["seed"]
        logger.warning("dead start: begins again from another initialisation (seed %d), %d of at "
                       "most %d", seed, number, MAX_RESTARTS)
        if self.trainer.adversary is not None:
            self.trainer.adversary.close()
        self.trainer = self.new_trainer(seed)
        self.progress = self.trainer.progress
        self.progress.restarts = restarts
        self.progress.seconds, self.progress.total_steps = before.seconds, before.total_steps
        if self.keeper is not None:
            self.keeper.begin_again(self.trainer, number)

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
        kept, variables = self.progress, self.trainer.variables()
        back_at = self.replicas.from_chief(
            lambda: load_state(self.run_dir / LATEST, variables).step)
        self.replicas.share(variables)
        kept.rollbacks += 1
        kept.bad_in_row = 0
        kept.skipped.append([back_at, step])
        self._save()
        if kept.rollbacks >= MAX_ROLLBACKS:
            raise TrainingError(
                f"{terms} not finite again at steps {step - self.training.max_bad_steps + 1} to "
                f"{step}, roll-back number {kept.rollbacks} of this run (skipped steps: "
                f"{kept.skipped})",
                "lower training.learning_rate or losses.adversarial_weight, or check the data with "
                "gan-denoise check, and start a new run",
            )
        logger.warning("went back to the state of step %d, going on behind step %d", back_at, step)
