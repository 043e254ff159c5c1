"""The actor of a folder run on a Ray cluster: a model on one machine, which denoises files in turn.

This module imports little, so that actors are asked for before anything else: what the work needs
they import on their machines, while the model is loaded and the run is planned on this one.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from gan_denoise.inference.file_task import FileTask

CONTROL = "control"  # calls that are answered while a file is in work


class Stopped(Exception):
    """The run is to end, amid a file."""


class Denoiser:
    """The actor: a model on one machine of the cluster, which denoises files in turn."""

    def __init__(self) -> None:
        from gan_denoise.core.memory import collect_seldom
        from gan_denoise.core.native_libraries import load_onnxruntime
        from gan_denoise.inference import file_task, worker_setup  # noqa: F401 - before `load`

        load_onnxruntime()
        collect_seldom()
        self._stop, self._busy = threading.Event(), threading.Lock()
        self._seconds = 0.0

    def load(self, parts: Mapping[str, bytes], setup: Mapping[str, Any],
             journal: Mapping[str, Any], mark: bytes) -> dict[str, Any]:
        """Load the model; return how it went.

        Args:
            parts: The files of the model's folder, by name.
            setup: What `setup_of` returned.
            journal: Arguments of this worker's journal.
            mark: First line of the folder's journal, which must be seen from here.

        Returns:
            `host`, `node` and `version`, with `ready`, the digest of the settings; or with
            `missing`, the folder that is another one here; or with `refused`, why the model cannot
            be loaded or the folder's address not be reached.
        """
        from gan_denoise import __version__
        from gan_denoise.core.errors import GanDenoiseError
        from gan_denoise.core.leftovers import temporary_folder
        from gan_denoise.core.locations import LocationError
        from gan_denoise.inference.folder_journal import Journal, digest_of
        from gan_denoise.inference.worker_setup import load_setup

        answer = {"host": platform.node(), "node": ray.get_runtime_context().get_node_id(),
                  "version": __version__}
        try:
            self._journal = Journal(**journal)
            if self._journal.first_line() != mark:
                return answer | {"missing": journal["out"]}
        except LocationError as error:  # this machine may lack the credentials
            return answer | {"refused": str(error)}
        with temporary_folder("gan-denoise-model-") as folder:
            for name, content in parts.items():
                (Path(folder) / name).write_bytes(content)
            try:
                self._enhancer = load_setup(setup, Path(folder))
            except GanDenoiseError as error:
                return answer | {"refused": str(error)}
        return answer | {"ready": digest_of(self._enhancer.settings())}

    def denoise(self, task: FileTask) -> dict[str, Any] | None:
        """Denoise a file and return the figures of its result; None when the run is to end."""
        from gan_denoise.inference.file_task import run_task

        with self._busy:
            self._seconds = 0.0
            try:
                self._count(0.0)
                return run_task(self._enhancer, self._journal, task, self._count).figures()
            except Stopped:
                return None

    @ray.method(concurrency_group=CONTROL)
    def seconds(self) -> float:
        """Return the seconds of audio that are done of the present file."""
        return self._seconds

    @ray.method(concurrency_group=CONTROL)
    def stop(self) -> None:
        """End the work on the present file, remove what is half-written, and begin no other."""
        self._stop.set()
        with self._busy:
            pass

    def _count(self, seconds: float) -> None:
        if self._stop.is_set():
            raise Stopped
        self._seconds += seconds
