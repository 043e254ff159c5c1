"""What training shows on a console: lines of the log, a bar on a terminal, results."""

from __future__ import annotations

import io
import logging

from rich.console import Console

from gan_denoise.cli.training_output import TrainingDisplay, logged_to, render_training
from gan_denoise.training.loop import TrainingResult
from gan_denoise.training.progress import TrainingProgress

logger = logging.getLogger("gan_denoise.training.loop")


def console(**options):
    return Console(file=io.StringIO(), width=200, **options)


def test_log_lines_are_shown_as_they_are_and_only_within():
    shown = console()
    with logged_to(shown):
        logger.info("weights from %s", "[bold]runs[/bold]/a:smile:")
        logger.debug("a detail")
    logger.warning("too late")
    assert shown.file.getvalue() == "weights from [bold]runs[/bold]/a:smile:\n"
    assert logging.getLogger("gan_denoise").getEffectiveLevel() == logging.WARNING


def test_a_terminal_shows_a_bar_with_the_time_left():
    terminal = console(force_terminal=True)
    with TrainingDisplay(terminal) as display:
        display.show(TrainingProgress(0, 5000, {}))
        display.show(TrainingProgress(1, 5000, {"loss/mse": 0.1}))
        display.show(TrainingProgress(11, 5000, {"loss/mse": 0.1}, 2.0, 64.0, 0.2))
        logger.info("step 11 validation: SI-SDR 3 dB")
    shown = terminal.file.getvalue()
    assert "starting" in shown
    assert "step 11/5000" in shown
    assert "41:34 min left · 64 audio s/s · 20% waiting for data" in shown
    assert "step 11 validation: SI-SDR 3 dB" in shown


def test_a_narrow_terminal_cuts_losses_not_the_time_left():
    terminal = Console(file=io.StringIO(), width=60, force_terminal=True)
    with TrainingDisplay(terminal) as display:
        display.show(TrainingProgress(0, 5000, {}))
        losses = {f"loss/number_{number}": 0.1 for number in range(20)}
        display.show(TrainingProgress(11, 5000, losses, 2.0, 64.0, 0.2))
    assert "41:34 min left" in terminal.file.getvalue()


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch):
    from gan_denoise.training import progress

    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    log = console()
    with TrainingDisplay(log) as display:
        display.show(TrainingProgress(0, 60, {}))
        for step in range(1, 41):  # a step a second
            now = float(step)
            display.show(TrainingProgress(step, 60, {"loss/mse": 0.1}, 1.0, 32.0, 0.0))
    lines = log.file.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == ["step 16/60", "step 32/60"]
    assert lines[0].endswith("0:44 min left · 32 audio s/s · 0% waiting for data · mse 0.1")


def test_the_devices_that_train_come_before_the_hint_and_that_before_the_steps():
    log = console()
    with TrainingDisplay(log, "TensorBoard: tensorboard --logdir run") as display:
        logger.info("trains on the CPU")
        for step in range(3):
            display.show(TrainingProgress(step, 60, {}))
        logger.info("step 2 validation: SI-SDR 3 dB")
    assert log.file.getvalue().splitlines() == [
        "trains on the CPU", "TensorBoard: tensorboard --logdir run",
        "step 2 validation: SI-SDR 3 dB"]


def test_a_finished_run_is_summed_up(tmp_path):
    shown = console()
    restart = {"step": 6, "seed": 1000, "reason": "the gradient has vanished"}
    render_training(TrainingResult(tmp_path / "run", 12, {"step": 10, "si_sdr": 3.25}, {}, 64.0,
                                   0.125, (restart,)), shown)
    text = shown.file.getvalue()
    for part in ("12 steps, 64 audio seconds a second, 12.5% of the time waiting for data",
                 "seed 1000: the gradient has vanished", "3.25"):
        assert part in text


def test_a_run_without_a_timed_step_claims_no_speed(tmp_path):
    shown = console()
    render_training(TrainingResult(tmp_path / "run", 12, {"step": 10, "si_sdr": 3.25}, {}, 0.0,
                                   0.0, ()), shown)
    assert "12 steps\n" in shown.file.getvalue()
