"""Progress of training: speed, time left, and how often it is shown."""

from __future__ import annotations

import pytest

from gan_denoise.training import progress
from gan_denoise.training.progress import (
    SPEED_STEPS,
    UNTIMED_STEPS,
    Speedometer,
    TrainingProgress,
    now_and_then,
)


def test_speed_is_that_of_the_last_steps_without_the_first():
    speed = Speedometer(audio_per_step=32.0)
    for _ in range(UNTIMED_STEPS):
        speed.add(30.0, 0.0)
    assert (speed.steps_per_second, speed.audio_speed, speed.wait_share) == (0, 0, 0)
    for _ in range(4):
        speed.add(0.5, 0.1)
    assert speed.steps_per_second == pytest.approx(2.0)
    assert speed.audio_speed == pytest.approx(64.0)
    assert speed.wait_share == pytest.approx(0.2)
    for _ in range(SPEED_STEPS):  # slower ones push the others out
        speed.add(1.0, 0.0)
    assert speed.steps_per_second == pytest.approx(1.0)
    assert speed.wait_share == 0


def test_the_time_left_is_known_with_the_speed_and_the_number_of_steps():
    assert TrainingProgress(11, 5000, {}, steps_per_second=2.0).seconds_left == 4989 / 2
    assert TrainingProgress(11, None, {}, steps_per_second=2.0).seconds_left is None
    assert TrainingProgress(11, 5000, {}).seconds_left is None


def test_progress_in_words():
    told = TrainingProgress(11, 5000, {"loss/mse": 0.1, "discriminator/real": 0.5}, 2.0, 64.0, 0.2)
    assert told.position == "step 11/5000"
    assert told.figures == ("41:34 min left · 64 audio s/s · 20% waiting for data · "
                            "mse 0.1 discriminator/real 0.5")
    early = TrainingProgress(1, None, {"loss/mse": 0.1})
    assert early.position == "step 1"
    assert early.figures == "mse 0.1"  # no speed is known yet


def test_now_and_then_is_once_in_so_many_seconds(monkeypatch):
    now, shown = 0.0, []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    show = now_and_then(lambda told: shown.append(told.step), seconds=10.0)
    for step in range(61):  # a step a second
        now = float(step)
        show(TrainingProgress(step, 60, {"loss/mse": 1.0} if step else {}))
    assert shown == [11, 22, 33, 44, 55]
