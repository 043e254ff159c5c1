"""What a run keeps and shows between steps: checkpoints, validations, curves, warnings."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gan_denoise.config.artifacts import BEST, LATEST
from gan_denoise.training.checkpoints import read_progress, save_state
from gan_denoise.training.monitor import Finding, Monitor, summary
from gan_denoise.training.progress import Speedometer
from gan_denoise.training.trackers import open_trackers, set_aside
from gan_denoise.training.trainer import Trainer

if TYPE_CHECKING:
    import tensorflow as tf

SHOWN_CLIPS = 3  # by trackers
SHOWN_AGAIN = 1.1  # times as many validations as when clips were last shown

OnValidation = Callable[[int, Mapping[str, float]], None]
logger = logging.getLogger("gan_denoise.training.loop")


def best_values(run_dir: Path) -> dict[str, float]:
    """Return the validation values of a run's best state; none before there is one."""
    stored = run_dir / BEST
    return read_progress(stored).history[-1] if stored.is_file() else {}


def shows_clips(validation: int) -> bool:
    """Return whether trackers get the clips of a validation, counted from 1.

    The first ten, then each time there are a tenth more: of 1,000 validations 58, of 10,000 83. A
    megabyte of sounds at each would fill the disk of a long run.
    """
    if validation == 1:
        return True
    shown = (math.floor(math.log(number, SHOWN_AGAIN)) for number in (validation - 1, validation))
    return next(shown) < next(shown)


class Keeper:
    """The run directory, the trackers and the monitor of a run: of several workers, the chief's.

    Args:
        trainer: Of the run, before its first step of this sitting.
        run_dir: Directory of the run.
        on_validation: See `loop.train`.
    """

    def __init__(self, trainer: Trainer, run_dir: Path, on_validation: OnValidation | None):
        self.run_dir, self.on_validation = run_dir, on_validation
        self.training = trainer.config.training
        self._clock = time.monotonic()  # up to which `progress.seconds` counts
        self._watch(trainer)
        if not (run_dir / LATEST).is_file():
            self.save(LATEST)  # so that there is a state to go back to
        self.trackers = open_trackers(trainer.config, run_dir)

    def _watch(self, trainer: Trainer) -> None:
        self.trainer, self.progress = trainer, trainer.progress
        self.monitor = Monitor(trainer.config, trainer.kind, self.progress.watch)

    def close(self) -> None:
        """Write what trackers hold back."""
        for tracker in self.trackers:
            tracker.close()

    def seconds(self) -> float:
        """Return the time spent training, over all sittings."""
        return self.progress.seconds + time.monotonic() - self._clock

    def save(self, name: str) -> None:
        """Write a state."""
        self.progress.seconds, self._clock = self.seconds(), time.monotonic()
        save_state(self.run_dir / name, self.trainer.variables(), self.progress)

    def after_step(self, values: Mapping[str, float], speed: Speedometer) -> Finding | None:
        """Show a step's values where it is their turn; return what ends this start, if anything."""
        step = self.progress.step
        if step % self.training.log_every == 0:
            shown = dict(values) | {
                "speed/audio_seconds_per_second": speed.audio_speed,
                "speed/waiting_for_data": speed.wait_share,
            }
            for tracker in self.trackers:
                tracker.scalars(step, shown)
        if self.progress.bad_in_row:
            return None
        return self._report(self.monitor.after_step(values))

    def validate(
        self, noisy: tf.Tensor, clean: tf.Tensor, last: Mapping[str, float], finished: bool
    ) -> Finding | None:
        """Score the generator, and keep it where it is the best so far.

        Args:
            noisy: The last batch.
            clean: The same of the clean recordings.
            last: Named values of the last step.
            finished: Whether the run ends here.

        Returns:
            What ends this start, if anything.
        """
        values, shown = self.trainer.validate()
        if self.trainer.kind == "finetune":
            values |= {k: v for k, v in last.items() if k.startswith("discriminator/")}
            values["adversarial_share"] = (
                self.trainer.adversarial_share(self.progress.step, noisy, clean)
            )
        step = self.progress.step
        self.progress.history.append(
            {"step": step} | {k: v for k, v in values.items() if math.isfinite(v)}
        )
        score = self.progress.history[-1].get(self.training.select_by, -math.inf)
        # What was trained on chooses nothing: then the last state is taken.
        better = (self.progress.best is None or score > self.progress.best
                  or self.trainer.config.data.merge_validation)
        if better:
            self.progress.best = score if math.isfinite(score) else None
            self.save(BEST)
        mels, audio = ({name: part[:SHOWN_CLIPS] for name, part in shown[what].items()}
                       for what in ("mels", "audio"))
        with_clips = finished or shows_clips(len(self.progress.history))
        for tracker in self.trackers:
            tracker.scalars(step, {f"valid/{name}": value for name, value in values.items()})
            if with_clips:
                tracker.clips(step, mels, audio)
        finite = {k: v for k, v in self.progress.history[-1].items() if k != "step"}
        logger.info("step %d validation: %s%s", step, summary(finite), " · best" if better else "")
        dead = self._report(self.monitor.after_validation(self.progress.history, last=finished))
        if dead is None and self.on_validation is not None:
            self.on_validation(step, values)
        return dead

    def _report(self, findings: Sequence[Finding]) -> Finding | None:
        """Log what the monitor has found; return what it calls dead."""
        if not self.training.watch:
            return None
        step = self.progress.step
        for finding in findings:
            logger.warning("step %d warning: %s", step, finding.text)
            for tracker in self.trackers:
                tracker.text(step, f"watch/{finding.name}", finding.text)
        return next((finding for finding in findings if finding.dead), None)

    def begin_again(self, trainer: Trainer, number: int) -> None:
        """Keep what follows a dead start apart from it.

        Args:
            trainer: What goes on, from another initialisation.
            number: Of dead starts so far.
        """
        self._watch(trainer)
        self.save(LATEST)
        (self.run_dir / BEST).unlink(missing_ok=True)
        self.close()
        set_aside(self.run_dir, f"dead-start-{number}")
        self.trackers = open_trackers(trainer.config, self.run_dir)
