"""Where a run logs scalars, pictures and sound: TensorBoard, and Weights & Biases."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from gan_denoise.config.schema import Config
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.errors import GanDenoiseError, OutputError
from gan_denoise.training.tensorboard_layout import comparable_settings, final_scores, layout

PROJECT = "gan-denoise"  # on Weights & Biases, where WANDB_PROJECT names no other
RUN_ID = "wandb/run-id.txt"  # in a run directory
EVENTS = "tensorboard"  # the same
SCORES = "scores"  # below it: TensorBoard's HParams tab shows every curve of a run as a column

Arrays = Mapping[str, np.ndarray]


class TrackingError(GanDenoiseError):
    """A tracker cannot be used: what is missing, and the way out."""


class Tracker(Protocol):
    """Takes the scalars, pictures, sound and texts of a run."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers."""

    def clips(self, step: int, mels: Arrays, audio: Arrays) -> None:
        """Write the fixed clips.

        Args:
            step: Number of the step.
            mels: mel01 `[clips, frames, n_mels]` by name; they are stacked into one picture a clip.
            audio: float32 `[clips, samples]` by name.
        """

    def text(self, step: int, name: str, text: str) -> None:
        """Write a line, and the number 1 under the same name, so that it shows on a time axis."""

    def close(self) -> None:
        """Write what is left."""


def check_tracker(tracker: str) -> None:
    """Check that a tracker can be used, before anything is written.

    Raises:
        TrackingError: When the package or the login is missing.
    """
    if tracker != "wandb":
        return
    try:
        import wandb
    except ImportError:
        raise TrackingError(
            "training.tracker=wandb needs the package wandb",
            "pip install 'gan-denoise[wandb]', or take training.tracker=tensorboard",
        ) from None
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    try:
        wandb.login()
    except wandb.Error as error:
        raise _not_reached(error) from error


def open_trackers(config: Config, run_dir: Path) -> list[Tracker]:
    """Return TensorBoard, and what `training.tracker` adds to it.

    Raises:
        TrackingError: When a tracker cannot be reached.
    """
    trackers: list[Tracker] = [TensorBoard(run_dir, config)]
    if config.training.tracker == "wandb":
        trackers.append(WeightsAndBiases(run_dir, config))
    return trackers


def set_aside(run_dir: Path, name: str) -> None:
    """Keep what closed trackers hold of a run so far apart from what follows.

    On TensorBoard it becomes a run of its own, beside the one that goes on; on Weights & Biases
    the steps that follow are another run.
    """
    events = run_dir / EVENTS
    (events / name).mkdir(parents=True, exist_ok=True)
    for path in events.iterdir():
        if path.is_file():
            shutil.move(path, events / name / path.name)
    (run_dir / RUN_ID).unlink(missing_ok=True)


class TensorBoard:
    """Event files under `run_dir/tensorboard`: curves, clips, and how the runs are compared.

    Its Custom Scalars and HParams tabs are laid out in `tensorboard_layout`.
    """

    def __init__(self, run_dir: Path, config: Config):
        import tensorflow as tf
        from tensorboard.plugins.custom_scalar import summary as custom_scalars
        from tensorboard.plugins.hparams import api as hparams

        self._summary, self._folder = tf.summary, run_dir / EVENTS
        self._sample_rate = config.audio.sample_rate
        with self._writing():
            self._writer = tf.summary.create_file_writer(str(self._folder))
            self._scores = tf.summary.create_file_writer(str(self._folder / SCORES))
            with self._writer.as_default(0):
                charts = custom_scalars.pb(layout())
                self._summary.experimental.write_raw_pb(charts.SerializeToString())
            with self._scores.as_default(0):
                hparams.hparams(comparable_settings(config), trial_id=run_dir.absolute().name)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        # Not as Python's own numbers, of which TensorFlow keeps each that it is given.
        with self._writing(), self._writer.as_default(np.int64(step)):
            for name, value in values.items():
                self._summary.scalar(name, np.float32(value))
        with self._writing(), self._scores.as_default(np.int64(step)):
            for name, value in final_scores(values).items():
                self._summary.scalar(name, np.float32(value))

    def clips(self, step: int, mels: Arrays, audio: Arrays) -> None:
        """See `Tracker`."""
        title, pictures = _pictures(mels)
        with self._writing(), self._writer.as_default(step):
            self._summary.image(title, pictures, max_outputs=len(pictures))
            for name, waveform in audio.items():
                self._summary.audio(f"audio/{name}", _audible(waveform)[..., None],
                                    self._sample_rate, max_outputs=len(waveform))
            self._writer.flush()

    def text(self, step: int, name: str, text: str) -> None:
        """See `Tracker`."""
        with self._writing(), self._writer.as_default(step):
            self._summary.text(f"{name}/text", text)
            self._summary.scalar(name, 1.0)
            self._writer.flush()

    def close(self) -> None:
        """See `Tracker`."""
        with self._writing():
            self._writer.close()
            self._scores.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn TensorFlow's error, whose text has several lines, into one that says the reason.

        Raises:
            OutputError: When an event file cannot be written: a full disk, no permission.
        """
        from tensorflow.errors import OpError

        try:
            yield
        except OpError as error:
            reason = error.message.splitlines()[0].rpartition("; ")[2]
            raise OutputError(f"{self._folder}: not writable ({reason})",
                              "make room or give permission; the same command resumes") from error


class WeightsAndBiases:
    """A run on Weights & Biases, or, with `WANDB_MODE=offline`, files that are synced later.

    Names are TensorBoard's. Its files lie under `run_dir/wandb`, with the id by which a resumed run
    goes on in the same one.
    """

    def __init__(self, run_dir: Path, config: Config):
        import wandb

        self._wandb, self._sample_rate = wandb, config.audio.sample_rate
        known = run_dir / RUN_ID
        former = known.read_text(encoding="utf-8") if known.is_file() else None
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT), name=run_dir.name, id=former,
                resume="allow", dir=run_dir, allow_val_change=True,
                config=config.model_dump(mode="json", exclude={"tune"}),
                settings=wandb.Settings(console="off", quiet=True),
            )
        except wandb.Error as error:
            raise _not_reached(error) from error
        write_atomically(known, lambda file: file.write(self._run.id.encode()))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(dict(values), step=step)

    def clips(self, step: int, mels: Arrays, audio: Arrays) -> None:
        """See `Tracker`."""
        title, pictures = _pictures(mels)
        media = {title: [self._wandb.Image(picture) for picture in pictures]}
        for name, waveform in audio.items():
            media[f"audio/{name}"] = [self._wandb.Audio(clip, self._sample_rate)
                                      for clip in _audible(waveform)]
        self._run.log(media, step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """See `Tracker`."""
        self._run.log({name: 1.0, f"{name}/text": text}, step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


def _pictures(mels: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Return a title and uint8 `[clips, height, frames, 3]`: the mels of a clip, stacked."""
    from gan_denoise.reports.spectrograms import mel_image

    pictures = [np.concatenate([mel_image(mel) for mel in clip], axis=0)
                for clip in zip(*mels.values(), strict=True)]
    return "mel: " + ", ".join(mels) + " from the top", np.stack(pictures)


def _audible(waveform: np.ndarray) -> np.ndarray:
    """Return clips `[clips, samples]`, each at a peak of 0.9."""
    peak = np.maximum(np.abs(waveform).max(axis=1, keepdims=True), 1e-6)
    return waveform / peak * 0.9


def _not_reached(error: Exception) -> TrackingError:
    reason = str(error).splitlines()[0].rstrip(".")
    return TrackingError(f"Weights & Biases: {reason}", "log in (wandb login), or set "
                         "WANDB_MODE=offline, or take training.tracker=tensorboard")
