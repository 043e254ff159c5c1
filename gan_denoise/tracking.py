"""What a run shows while it trains: TensorBoard, and progress on the terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class TensorBoard:
    """Event files under `run_dir/tensorboard`."""

    def __init__(self, run_dir: Path, sample_rate: int):
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(str(run_dir / "tensorboard"))
        self._sample_rate = sample_rate

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers."""
        with self._writer.as_default(step):
            for name, value in values.items():
                self._summary.scalar(name, value)

    def clips(self, step: int, mels: Mapping[str, np.ndarray], audio: Mapping[str, Any]) -> None:
        """Write the fixed clips.

        Args:
            step: Number of the step.
            mels: mel01 `[clips, frames, n_mels]` by name; they are stacked into one picture a clip.
            audio: float32 `[clips, samples]` by name.
        """
        from gan_denoise.report import mel_image

        with self._writer.as_default(step):
            pictures = [
                np.concatenate([mel_image(mel) for mel in clip], axis=0)
                for clip in zip(*mels.values(), strict=True)
            ]
            title = "mel: " + ", ".join(mels) + " from the top"
            self._summary.image(title, np.stack(pictures), max_outputs=len(pictures))
            for name, waveform in audio.items():
                peak = np.maximum(np.abs(waveform).max(axis=1, keepdims=True), 1e-6)
                self._summary.audio(f"audio/{name}", (waveform / peak * 0.9)[..., None],
                                    self._sample_rate, max_outputs=len(waveform))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class ConsoleReport:
    """Progress of a run on stderr: a live bar on a terminal, else a line now and then.

    Use as a context manager.
    """

    LINE_SECONDS = 15.0  # between lines where there is no terminal
    WARM_STEPS = 10  # not counted in the speed: tracing, caches
    WINDOW = 200  # steps that the speed is of; the steps of a warm-up are cheaper than others

    def __init__(self, console: Any, seconds_per_step: float):
        from rich import progress

        self.console, self.seconds_per_step = console, seconds_per_step
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=20),
            progress.TextColumn("{task.fields[text]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, text="")
        self._line = time.monotonic()
        self._steps = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=self.WINDOW)

    def __enter__(self) -> ConsoleReport:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def step(
        self, step: int, total: int | None, values: Mapping[str, float], seconds: float,
        waited: float,
    ) -> None:
        """Count a step and show it.

        Args:
            step: Steps done.
            total: Steps in all, None while it is being measured.
            values: Named values of the step; the losses are shown.
            seconds: Length of the step, data included.
            waited: Seconds of it in which the step waited for its data.
        """
        self._steps += 1
        if self._steps > self.WARM_STEPS:
            self._recent.append((seconds, waited))
        shown = " ".join(
            f"{name.removeprefix('loss/')} {value:.3g}"
            for name, value in values.items() if name.startswith(("loss/", "discriminator/"))
        )
        left = ""
        if total is not None:
            left = f" · {_clock((total - step) / max(self.steps_per_second, 1e-9))} left"
        text = (f"{shown} · {self.audio_speed:.0f} audio s/s · {self.wait_share:.0%} waiting for "
                f"data{left}")
        of = "" if total is None else f"/{total}"
        self._bar.update(self._task, description=f"step {step}{of}", total=total, completed=step,
                         text=text)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._line > self.LINE_SECONDS:
            self._line = now
            self.say(f"step {step}{of} · {text}")

    @property
    def steps_per_second(self) -> float:
        """Speed over the last steps, 0 before the first."""
        spent = sum(seconds for seconds, _ in self._recent)
        return len(self._recent) / spent if spent else 0.0

    @property
    def audio_speed(self) -> float:
        """Seconds of audio trained a second."""
        return self.steps_per_second * self.seconds_per_step

    @property
    def wait_share(self) -> float:
        """Share of the time that went into waiting for data, over the last steps."""
        spent = sum(seconds for seconds, _ in self._recent)
        return sum(waited for _, waited in self._recent) / spent if spent else 0.0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min"
