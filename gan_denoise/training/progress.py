"""How far a training run is: what its progress callback is given, and how fast steps are."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

UNTIMED_STEPS = 10  # at the start of a run: tracing, caches
SPEED_STEPS = 200  # that the speed is averaged over; the steps of a warm-up are cheaper than others
LINE_SECONDS = 15.0  # between lines of progress where there is no bar
DECODING_SECONDS = 5.0  # between lines while recordings are decoded

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingProgress:
    """A training run before its first step, and after each.

    Attributes:
        step: Steps done.
        total_steps: Steps in all; None until `training.minutes` has become a number of steps.
        losses: Losses of the last step and what the discriminator makes of real and generated
            mels, by name (`loss/mse`, `discriminator/real`); empty before the first step.
        steps_per_second: Over the last steps; 0 while it is not known.
        audio_speed: Seconds of audio trained a second; 0 while it is not known.
        wait_share: Share of the time spent waiting for data, in [0, 1].
    """

    step: int
    total_steps: int | None
    losses: Mapping[str, float]
    steps_per_second: float = 0.0
    audio_speed: float = 0.0
    wait_share: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the last step; None while that cannot be told."""
        if self.total_steps is None or not self.steps_per_second:
            return None
        return (self.total_steps - self.step) / self.steps_per_second

    @property
    def position(self) -> str:
        """`step 12/500`; `step 12` while the number of steps is not known."""
        return f"step {self.step}" + ("" if self.total_steps is None else f"/{self.total_steps}")

    @property
    def figures(self) -> str:
        """Time left, speed and losses in one line; the losses last, as a terminal cuts the end."""
        parts = []
        if self.seconds_left is not None:
            minutes, seconds = divmod(round(self.seconds_left), 60)
            parts.append(f"{minutes}:{seconds:02d} min left")
        if self.audio_speed:
            parts.append(f"{self.audio_speed:.0f} audio s/s")
            parts.append(f"{self.wait_share:.0%} waiting for data")
        parts.append(" ".join(f"{name.removeprefix('loss/')} {value:.3g}"
                              for name, value in self.losses.items()))
        return " · ".join(parts)


OnProgress = Callable[[TrainingProgress], None]


class Speedometer:
    """Speed of training over the last steps.

    Args:
        audio_per_step: Seconds of audio in a batch.
    """

    def __init__(self, audio_per_step: float):
        self.audio_per_step = audio_per_step
        self._steps = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=SPEED_STEPS)

    def add(self, seconds: float, waited: float) -> None:
        """Count a step.

        Args:
            seconds: Length of the step, its data included.
            waited: Seconds of it in which the step waited for its data.
        """
        self._steps += 1
        if self._steps > UNTIMED_STEPS:
            self._recent.append((seconds, waited))

    @property
    def steps_per_second(self) -> float:
        """0 while no step was timed."""
        seconds = self._seconds()
        return len(self._recent) / seconds if seconds else 0.0

    @property
    def audio_speed(self) -> float:
        """Seconds of audio trained a second."""
        return self.steps_per_second * self.audio_per_step

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting for data, in [0, 1]."""
        seconds = self._seconds()
        return sum(waited for _, waited in self._recent) / seconds if seconds else 0.0

    def _seconds(self) -> float:
        return sum(seconds for seconds, _ in self._recent)


def now_and_then(show: OnProgress, seconds: float = LINE_SECONDS) -> OnProgress:
    """Return a progress callback that calls `show` once in so many seconds, for lines in a log."""
    shown = time.monotonic()

    def on_progress(progress: TrainingProgress) -> None:
        nonlocal shown
        if not progress.losses:  # a run begins
            shown = time.monotonic()
        elif time.monotonic() - shown > seconds:
            shown = time.monotonic()
            show(progress)

    return on_progress


def log_decoding() -> Callable[[int, int], None]:
    """Return a callback (files done, files in all) that logs now and then how far decoding is."""
    logged = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal logged
        if time.monotonic() - logged > DECODING_SECONDS:
            logged = time.monotonic()
            logger.info("decoding: %d of %d files", done, total)

    return progress
