"""What a run has logged so far, read from its event files: curves, and the latest clips.

Needs the packages `tensorboard` and `numpy`, not TensorFlow. A run that goes on can be read again:
only what was added since is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.training.trackers import EVENTS

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

HEADER, FOOTER = 12, 4  # bytes around a record of a TFRecord file: length and checksums
SCALARS, IMAGES, AUDIO = "scalars", "images", "audio"  # TensorBoard's plugins


CHECKED = 1 << 12  # bytes of a record whose checksum is compared: curves; sounds would take minutes


class RunEventsError(GanDenoiseError):
    """A folder holds no event files of a run, or one that cannot be read."""


class RunEvents:
    """The event files of one run.

    Args:
        run_dir: Directory of the run; `update` reads it.

    Attributes:
        images: For each picture's tag the step of the latest, and PNG files, one a clip.
        audio: For each sound's tag the step of the latest, and WAV files, one a clip.
    """

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir
        self._clear()

    def _clear(self) -> None:
        self._read_up_to: dict[Path, int] = {}  # bytes
        self._plugins: dict[str, str] = {}  # of a tag; said with its first value only
        self._scalars: dict[str, dict[int, float]] = {}
        self.images: dict[str, tuple[int, list[bytes]]] = {}
        self.audio: dict[str, tuple[int, list[bytes]]] = {}

    @property
    def tags(self) -> list[str]:
        """Tags of all curves."""
        return sorted(self._scalars)

    def curve(self, tag: str) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and values `[points]` of a curve, by step; both empty where there is none.

        Where a run was interrupted and went on from an earlier step, the later values count.
        """
        points = sorted(self._scalars.get(tag, {}).items())
        return (np.array([step for step, _ in points], np.int64),
                np.array([value for _, value in points], np.float64))

    def update(self) -> RunEvents:
        """Read what was added; return the same object.

        Raises:
            RunEventsError: When a file is no event file.
        """
        files = sorted((self.run_dir / EVENTS).glob("events.out.tfevents.*"))
        if not set(self._read_up_to) <= set(files):
            self._clear()  # a dead start was set aside, and the run began again
        for path in files:
            for event in self._new_events(path):
                for value in event.summary.value:
                    self._take(event.step, value)
        return self

    def _new_events(self, path: Path) -> Iterator[Event]:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.event_pb2 import Event

        with open(path, "rb") as file:
            file.seek(self._read_up_to.get(path, 0))
            while len(header := file.read(HEADER)) == HEADER:
                _check(path, header[:8], header[8:])
                (length,) = struct.unpack("<Q", header[:8])
                record = file.read(length + FOOTER)
                if len(record) < length + FOOTER:
                    return  # is being written
                content, checksum = record[:length], record[length:]
                if length <= CHECKED:
                    _check(path, content, checksum)
                try:
                    event = Event.FromString(content)
                except DecodeError as error:
                    raise RunEventsError(f"{path}: is no event file of TensorBoard ({error})",
                                         "remove it") from error
                self._read_up_to[path] = file.tell()
                yield event
            self._read_up_to.setdefault(path, 0)

    def _take(self, step: int, value: Summary.Value) -> None:
        from tensorboard.util.tensor_util import make_ndarray

        tag = value.tag
        plugin = self._plugins.setdefault(tag, value.metadata.plugin_data.plugin_name)
        if plugin == SCALARS:
            self._scalars.setdefault(tag, {})[step] = float(make_ndarray(value.tensor))
        elif plugin == IMAGES:  # width and height come before the pictures
            self.images[tag] = step, list(make_ndarray(value.tensor)[2:])
        elif plugin == AUDIO:  # each sound with its label
            self.audio[tag] = step, [clip for clip, _ in make_ndarray(value.tensor)]


def _check(path: Path, content: bytes, checksum: bytes) -> None:
    """Compare a part of a TFRecord file with its checksum, a masked CRC-32C."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    if struct.pack("<I", masked_crc32c(content)) != checksum:
        raise RunEventsError(f"{path}: is no event file of TensorBoard, or damaged: a checksum "
                             "differs", "remove it, with the curves that it holds")


def read_run(run_dir: Path) -> RunEvents:
    """Return all that a run has logged.

    Raises:
        RunEventsError: When the folder is none, or holds no curves of a run.
    """
    if not run_dir.is_dir():
        raise RunEventsError(f"{run_dir}: no such folder", "give the folder given to --run")
    events = RunEvents(run_dir).update()
    if not events.tags:
        raise RunEventsError(f"{run_dir}: holds no curves of a training run",
                             "give the folder given to --run, once it has trained some steps")
    return events
