"""What training, studies and recipes show on a console: their log, a bar, their results."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import TextColumn

from gan_denoise.cli.console import Bar

if TYPE_CHECKING:
    from gan_denoise.recipes.demo import DemoResult
    from gan_denoise.training.loop import TrainingResult
    from gan_denoise.training.progress import TrainingProgress
    from gan_denoise.tuning.study_report import StudyReport

PACKAGE = "gan_denoise"  # whose loggers are shown
SHOWN_TRIALS = 5  # of a study, the best first


class ConsoleHandler(logging.Handler):
    """Writes each record of a logger as a line, above a bar where the console has one."""

    def __init__(self, console: Console):
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        print_line(self.console, record.getMessage())


@contextlib.contextmanager
def logged_to(console: Console) -> Iterator[None]:
    """Show what the package logs, from `INFO` up, on a console."""
    logger, handler = logging.getLogger(PACKAGE), ConsoleHandler(console)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class TrainingDisplay:
    """Shows training: log lines and, on a terminal, a bar; else a line of progress now and then.

    Use as a context manager; `show` is a progress callback of `train`.

    Args:
        console: Where it is shown.
        hint: A line that is shown before the first step; none if empty.
    """

    def __init__(self, console: Console, hint: str = ""):
        from gan_denoise.training.progress import now_and_then

        self.console, self._hint = console, hint
        self._line = now_and_then(self._print_progress)
        self._logged = contextlib.ExitStack()
        self._bars = contextlib.ExitStack()
        self._bar: Bar | None = None

    def __enter__(self) -> TrainingDisplay:
        self._logged.enter_context(logged_to(self.console))
        return self

    def __exit__(self, *error: object) -> None:
        self._close_bar()
        self._logged.close()

    def show(self, progress: TrainingProgress) -> None:
        """Show how far a run is."""
        if self._hint:
            print_line(self.console, self._hint)
            self._hint = ""
        if self.console.is_terminal:
            self._draw(progress)
        else:
            self._line(progress)

    def _print_progress(self, progress: TrainingProgress) -> None:
        print_line(self.console, f"{progress.position} · {progress.figures}")

    def _draw(self, progress: TrainingProgress) -> None:
        if self._bar is None:
            self._bar = Bar(TextColumn("{task.description}"), output=self.console)
            self._bar.update(0, None, "starting")
            self._bars.enter_context(self._bar)
        if progress.losses:
            self._bar.update(progress.step, progress.total_steps,
                             f"{progress.position} · {progress.figures}")
        if progress.step == progress.total_steps:
            self._close_bar()

    def _close_bar(self) -> None:
        self._bars.close()
        self._bar = None


def print_line(console: Console, text: str) -> None:
    """Print text as it is, in lines as long as they are."""
    console.print(text, highlight=False, soft_wrap=True, markup=False, emoji=False)


def render_training(result: TrainingResult, console: Console) -> None:
    """Print what a finished run has come to."""
    from gan_denoise.training.monitor import summary

    restarts = "".join(f"\ndead start, begun again with seed {row['seed']}: {row['reason']}"
                       for row in result.restarts)
    speed = (f", {result.audio_speed:.0f} audio seconds a second, {result.wait_share:.1%} of the "
             "time waiting for data") if result.audio_speed else ""  # no step was timed
    print_line(console, f"{result.run_dir}: {result.step} steps{speed}{restarts}\n"
               f"best validation: {summary(result.best)}")


def render_step_benchmark(figures: Mapping[str, Any], console: Console) -> None:
    """Print the speed of a training step, see `training.step_benchmark.measure_training`."""
    machine, peak = figures["machine"], figures["peak_gflops"]
    console.print(
        f"a pretraining step on {machine['processor']}, {machine['cores']} cores\n"
        f"{figures['audio_seconds_per_second']:g} seconds of audio a second; "
        f"{figures['step_ms']:g} ms a step, {figures['network_ms']:g} of them the network\n"
        f"{figures['step_gflops']:g} GFLOP/s in the whole step "
        f"({figures['step_gflops'] / peak:.0%} of the machine's matrix product), "
        f"{figures['network_gflops']:g} in the network "
        f"({figures['network_gflops'] / peak:.0%} of {peak:g})", highlight=False,
    )


def render_study(report: StudyReport, console: Console) -> None:
    """Print the best trials of a study, and how many came to what."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from gan_denoise.tuning.search_space import words
    from gan_denoise.tuning.study_report import BEST, PAGE

    keys = [dimension.key for dimension in report.space.dimensions]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("trial", justify="right")
    table.add_column(report.metric, justify="right")
    for key in keys:
        table.add_column(key.replace(".", ".\n"), overflow="fold")
    for trial in report.ranking[:SHOWN_TRIALS]:
        drawn = (Text(words(trial.drawn[key])) for key in keys)
        table.add_row(str(trial.number), f"{trial.score:.4g}", *drawn)
    if report.best:
        console.print(table)
    counts = {state: sum(trial.state == state for trial in report.trials)
              for state in ("complete", "stopped", "refused", "failed", "running")}
    numbers = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    best = f"\nbest settings: {report.folder / BEST}" if report.best else ""
    print_line(console, f"trials: {numbers}{best}\npage: {report.folder / PAGE}")


def render_demo(result: DemoResult, console: Console) -> None:
    """Print the scores of the demo's models, and where the files are."""
    from gan_denoise.evaluation.table import score_tables
    from gan_denoise.recipes.demo import verdict

    console.print(score_tables(result.evaluation, brief=True))
    _, line = verdict(result.evaluation)
    print_line(console, f"{line}\n\na real recording, cleaned by this model and the shipped one:")
    console.print(score_tables(result.recording, brief=True))
    values = result.validation
    print_line(
        console,
        f"adversary: D(real) {values['discriminator/real']:.2f}, D(fake) "
        f"{values['discriminator/fake']:.2f}, {values['adversarial_share']:.1%} of the "
        f"generator's gradient norm\ndenoised files: {result.denoised}\nthe real recording: "
        f"{result.recordings}\npicture: "
        f"{result.picture}\nscores: {result.scores}\nTensorBoard: tensorboard --logdir "
        f"{result.runs}",
    )
