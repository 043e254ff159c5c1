"""Workers of a folder run on a Ray cluster, from the side of the process that starts them.

They take the place of the processes of `worker_pool`; the files lie on a path that all machines
share, and the model travels to them.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gan_denoise import __version__
from gan_denoise.config.artifacts import INFERENCE_PARTS
from gan_denoise.core.processes import ProcessDied
from gan_denoise.core.ray_cluster import ClusterError
from gan_denoise.core.ray_jobs import check_version
from gan_denoise.inference.file_task import FileTask
from gan_denoise.inference.folder_journal import Journal, digest_of
from gan_denoise.inference.model import ModelError
from gan_denoise.inference.ray_actors import Actors
from gan_denoise.inference.results import FileResult
from gan_denoise.inference.worker_pool import START_TRIES, STOP_SECONDS
from gan_denoise.inference.worker_setup import setup_of

if TYPE_CHECKING:
    from gan_denoise.inference.enhancer import Enhancer

IN_FLIGHT = 2  # files that a worker has been sent and has not answered
PROGRESS_SECONDS = 1.0  # between questions how far a file is


class WorkerDied(ProcessDied):
    """The process of a worker ended; a second time on the same file it is the file's fault."""

    tries = 2


class MachineLost(ProcessDied):
    """The machine of a worker was lost; a file is begun on three before it is given up."""

    tries = 3


class RayWorkers:
    """Starts the workers of one run.

    Args:
        actors: Actors of the cluster.
        enhancer: The model and options that the workers load.
        journal: Journal of the run; each worker has one of its own beside it.
    """

    def __init__(self, actors: Actors, enhancer: Enhancer, journal: Journal):
        self._actors, self._enhancer, self._journal = actors, enhancer, journal
        self._numbers = itertools.count(1)
        self._parts: Any = None
        self._mark = b""

    def start(self) -> RayWorker:
        """Start a worker; it has a CPU and a thread, and waits until one is free."""
        if self._parts is None:
            # Workers that do not see it would write into folders of their own machines.
            self._mark = self._journal.mark()
            self._parts = self._actors.ray.put({
                name: (self._enhancer.model.folder / name).read_bytes()
                for name in INFERENCE_PARTS})
        journal = self._journal.values(next(self._numbers))
        return RayWorker(self._actors, self._enhancer, self._parts, journal, self._mark)


class RayWorker:
    """An actor that denoises files in turn. One thread uses it; any thread may stop it."""

    def __init__(self, actors: Actors, enhancer: Enhancer, parts: Any,
                 journal: Mapping[str, Any], mark: bytes):
        """Have an actor load the model; it begins when the cluster has a CPU for it.

        Args:
            actors: Actors of the cluster.
            enhancer: The model and options that the actor loads.
            parts: Reference to the files of the model's folder, by name.
            journal: Arguments of the worker's journal.
            mark: First line of the folder's journal.
        """
        self._actors, self._ray = actors, actors.ray
        self._settings = digest_of(enhancer.settings())
        self._model = parts, setup_of(enhancer, 1), journal, mark
        self._guard, self._ended = threading.Lock(), False
        self._begin()
        self._host, self._node, self._ready = "", "", False
        self._stopping: Any = None

    def _begin(self) -> None:
        self._actor = self._actors.take()
        self._loading = self._actor.load.remote(*self._model)

    def ready(self, seconds: float) -> bool:
        """Wait until the model is loaded or refused; return whether it came to that.

        Args:
            seconds: The longest time to wait.
        """
        return self._ready or bool(self._ray.wait([self._loading], timeout=seconds)[0])

    def run(self, tasks: Sequence[FileTask]) -> Iterator[float | FileResult]:
        """Denoise files in turn: give the seconds done, again and again, then the result of each.

        Raises:
            ProcessDied: When the worker or its machine is lost before the last result.
            ModelError: When it cannot load the model, or finds another one.
            ClusterError: When it does not see the output folder, or lacks this version of this
                package.
        """
        if not self._ready:
            self._await_model()
        left = iter(tasks)
        sent = deque(map(self._send, itertools.islice(left, IN_FLIGHT)))
        for task in tasks:
            yield from self._answer(task, sent.popleft())
            sent.extend(map(self._send, itertools.islice(left, 1)))

    def terminate(self) -> None:
        """Ask the worker to end now; it removes what it has half-written."""
        with self._guard:
            self._ended = True
        if self._stopping is None and self._ready:
            self._stopping = self._actor.stop.remote()

    def join(self) -> None:
        """Wait until the worker has ended, and kill it when that takes too long."""
        if self._stopping is not None:
            self._ray.wait([self._stopping], timeout=STOP_SECONDS)
        with self._guard:
            self._ended = True
            if self._actor is not None and self.ready(0):
                self._ray.kill(self._actor)
            else:  # amid its creation it is not killed, see `Actors.keep`
                self._actor = None

    def _await_model(self) -> None:
        answer = self._loaded()
        self._host, self._node = answer["host"], answer["node"]
        check_version(self._host, answer.get("version"), __version__)
        if "missing" in answer:
            raise ClusterError(
                f"{answer['missing']}: not the same folder on {self._host}",
                "inputs and outputs must lie on a path that all machines of the cluster share")
        if "refused" in answer:
            raise ModelError(f"{self._host}: {answer['refused']}")
        if answer["ready"] != self._settings:
            raise ModelError("the model's folder changed since it was loaded; start again")
        with self._guard:
            self._check_wanted()
            self._ready = True

    def _loaded(self) -> dict[str, Any]:
        """Return what the actor says of its model; one that is lost before it says so is replaced.

        Raises:
            ClusterError: When it cannot start.
            ProcessDied: When it was killed as the run is to end.
        """
        exceptions = self._ray.exceptions
        number = 0
        while True:
            number += 1
            while not self.ready(1.0):
                self._check_wanted()
            try:
                return self._ray.get(self._loading)
            except (exceptions.RayActorError, exceptions.NodeDiedError) as error:
                if getattr(error, "actor_init_failed", False):
                    raise _no_start(_last_line(error)) from None
            except exceptions.RayError as error:
                raise _no_start(_last_line(error)) from None
            if number == START_TRIES:
                raise _no_start(f"it died {number} times as it loaded the model (killed, or out "
                                "of memory?)") from None
            with self._guard:
                self._check_wanted()
                self._begin()

    def _check_wanted(self) -> None:
        if self._ended:
            raise WorkerDied("the worker was stopped as it started")

    def _send(self, task: FileTask) -> Any:
        """Send a task by its absolute paths: the worker is in another folder."""
        residual = task.residual and task.residual.absolute()
        return self._actor.denoise.remote(replace(
            task, source=task.source.absolute(), target=task.target.absolute(), residual=residual))

    def _answer(self, task: FileTask, sent: Any) -> Iterator[float | FileResult]:
        try:
            before = 0.0
            while True:
                try:
                    figures = self._ray.get(sent, timeout=PROGRESS_SECONDS)
                    break
                except self._ray.exceptions.GetTimeoutError:
                    seconds = self._ray.get(self._actor.seconds.remote())
                    yield max(seconds - before, 0.0)
                    before = max(seconds, before)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.NodeDiedError) as error:
            raise self._death(error) from None
        if figures is None:
            raise WorkerDied(f"the worker on {self._host} was stopped")
        yield task.result(**figures)

    def _death(self, error: Exception) -> ProcessDied:
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        if self._node not in alive or isinstance(
                error, self._ray.exceptions.ActorUnavailableError):
            return MachineLost(f"the machine {self._host} was lost")
        cause = "out of memory" if "low on memory" in str(error) else "killed, or out of memory?"
        return WorkerDied(f"the worker on {self._host} died ({cause})")


def _no_start(reason: str) -> ClusterError:
    return ClusterError(f"a Ray worker could not start: {reason}",
                        "every machine of the cluster needs this version of gan-denoise, and "
                        "memory for the model")


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2].strip()
