"""Jobs of a Ray cluster: a function that is called once for each job, on any of its machines.

`RayPool` takes the place of `core.processes.ProcessPool` where the jobs read and write files on a
path that all machines share, or at addresses.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gan_denoise import __version__
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.locations import is_remote
from gan_denoise.core.processes import ProcessDied
from gan_denoise.core.ray_cluster import ClusterError, connect

IN_FLIGHT = 2  # jobs for each CPU, so that none waits for the next job
WORKER_TRIES, MACHINE_TRIES = 2, 3  # how often a job is begun that loses its worker, its machine
MARK = ".shared."  # begin of the name of a file that all workers must see
STOP_SECONDS = 10.0  # for jobs to remove what they have half-written


class Surroundings(NamedTuple):
    """What a machine of the cluster must have in common with this one.

    Attributes:
        folder: Where workers work, if it is there.
        paths: What they must find.
        version: Of gan-denoise.
    """

    folder: str
    paths: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Cluster:
    """Where jobs run, and how many at once.

    Attributes:
        address: As in `ray_cluster.connect`.
        workers: Jobs at once, of one CPU each; 0: as many as the cluster has CPUs.
    """

    address: str
    workers: int = 0

    @contextlib.contextmanager
    def pool(
        self, work: Callable[..., str], out: Path | None = None, inputs: Iterable[Path] = ()
    ) -> Iterator[RayPool]:
        """Connect for a `with` block; see `RayPool`, and `connect` for the errors."""
        with connect(self.address, self.workers) as ray:
            pool = RayPool(ray, self.workers or cpus(ray) * IN_FLIGHT, work, inputs)
            with pool.writing_to(out):
                yield pool


class RayPool:
    """Workers of a cluster that compute the results of a function.

    They work in the folder of this process, where their machine has it, so that relative paths are
    the same.

    Args:
        ray: The module, connected.
        in_flight: Jobs that are sent and not answered, at most.
        work: Called with the arguments of a job; returns what it does, for the error: "a worker
            died while <work>".
        inputs: Files and folders that every worker must find.

    Attributes:
        ray: The module.
    """

    def __init__(self, ray: Any, in_flight: int, work: Callable[..., str],
                 inputs: Iterable[Path] = ()):
        self.ray, self._in_flight, self._work = ray, in_flight, work
        self._paths = [path for path in inputs if not is_remote(path)]
        self._run = ray.remote(num_cpus=1, max_retries=0)(_run)

    @contextlib.contextmanager
    def writing_to(self, out: Path | None) -> Iterator[None]:
        """Let every worker check within the `with` block that it sees the folder `out`.

        A worker that does not would write into a folder of its own machine.
        """
        if out is None or is_remote(out):
            yield
            return
        out.mkdir(parents=True, exist_ok=True)
        mark = out / f"{MARK}{secrets.token_hex(8)}"
        mark.touch()
        self._paths.append(mark)
        try:
            yield
        finally:
            self._paths.remove(mark)
            mark.unlink(missing_ok=True)

    def map(
        self, function: Callable[..., Any], *arguments: Iterable[Any],
        lost: Callable[..., Any] | None = None,
    ) -> Iterator[Any]:
        """Call a function for each job, on the cluster; yield the results in order, as they come.

        A job is taken from the arguments when one that is in flight is done. A result that comes
        before those of earlier jobs is kept until they are there.

        Args:
            function: What can be pickled; each worker unpickles it once and keeps it.
            arguments: Iterables of its first, second ... argument, as of the built-in `map`.
            lost: Called with the arguments of a job on which workers died again and again and with
                the error; returns the result. None: the error is raised.

        Raises:
            ProcessDied: When a job's workers died, and `lost` is None.
            ClusterError: When a worker does not see the folders, or lacks this version of the
                package.
            GanDenoiseError, OSError: What the function raises.
        """
        setup = self.ray.put((function, self.surroundings()))
        jobs = enumerate(zip(*arguments, strict=False))
        running: dict[Any, _Begun] = {}
        done: dict[int, Any] = {}
        due = 0
        try:
            while True:
                while len(running) < self._in_flight and (job := next(jobs, None)) is not None:
                    self._begin(running, setup, _Begun(*job))
                if not running:
                    return
                (ready,), _ = self.ray.wait(list(running))
                begun = running.pop(ready)
                try:
                    done[begun.number] = self._result(ready, begun)
                except ProcessDied as error:
                    if begun.tries < error.tries:
                        begun.tries += 1
                        self._begin(running, setup, begun)
                        continue
                    error = ProcessDied(f"{error}, {begun.tries} times")
                    if lost is None:
                        raise error from None
                    done[begun.number] = lost(*begun.arguments, error)
                while due in done:
                    yield done.pop(due)
                    due += 1
        finally:
            self._cancel(list(running))

    def surroundings(self) -> Surroundings:
        """Return what workers `enter`."""
        return Surroundings(os.getcwd(), tuple(map(str, self._paths)), __version__)

    def _begin(self, running: dict[Any, _Begun], setup: Any, begun: _Begun) -> None:
        running[self._run.remote([setup], *begun.arguments)] = begun

    def _result(self, ready: Any, begun: _Begun) -> Any:
        exceptions, work = self.ray.exceptions, self._work
        try:
            return self.ray.get(ready)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, ImportError):
                raise ClusterError(f"a Ray worker could not start: {error.cause}", "every machine "
                                   "of the cluster needs this version of gan-denoise") from None
            if isinstance(error.cause, (GanDenoiseError, OSError)):
                raise error.cause from None
            raise
        except exceptions.NodeDiedError:
            died = ProcessDied(f"a machine of the cluster was lost while {work(*begun.arguments)}")
            died.tries = MACHINE_TRIES
            raise died from None
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
            cause = ("out of memory" if isinstance(error, exceptions.OutOfMemoryError)
                     else "killed, or out of memory?")
            died = ProcessDied(f"a worker died while {work(*begun.arguments)} ({cause})")
            died.tries = WORKER_TRIES
            raise died from None

    def _cancel(self, running: list[Any]) -> None:
        """End jobs as Ctrl-C would, so that they remove what they have half-written."""
        for job in running:
            self.ray.cancel(job)
        if running:
            _, left = self.ray.wait(running, num_returns=len(running), timeout=STOP_SECONDS)
            for job in left:
                self.ray.cancel(job, force=True)


@dataclass
class _Begun:
    """A job that is in flight."""

    number: int
    arguments: tuple[Any, ...]
    tries: int = 1


def cpus(ray: Any) -> int:
    """Return the number of CPUs of the cluster that the module `ray` is connected to."""
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


# ---- On the machines of the cluster ------------------------------------------------------------
def _run(setup: list[Any], *arguments: Any) -> Any:
    """Do a job; the reference to the setup is in a list, else Ray would resolve it each time."""
    return _set_up(setup[0])(*arguments)


@functools.lru_cache(maxsize=1)
def _set_up(setup: Any) -> Callable[..., Any]:
    """Return the function of a pool, once this worker is known to see the pool's files."""
    import ray

    function, surroundings = ray.get(setup)
    enter(surroundings)
    return function


def enter(surroundings: Surroundings) -> None:
    """Work in the folder, where this machine has it, and check all else.

    Raises:
        ClusterError: When a path is missing, or another version is installed.
    """
    import platform

    check_version(platform.node(), __version__, surroundings.version)
    with contextlib.suppress(OSError):  # only relative paths need it, and they are checked
        os.chdir(surroundings.folder)
    for path in map(Path, surroundings.paths):
        if not path.exists():
            shown = path.parent if path.name.startswith(MARK) else path
            raise ClusterError(
                f"{shown}: not the same folder on {platform.node()}",
                "inputs and outputs must lie on a path that all machines of the cluster share")


def check_version(host: str, theirs: str | None, ours: str) -> None:
    """Refuse a machine whose gan-denoise may give other results.

    Args:
        host: The machine.
        theirs: The version there; None: one that does not tell.
        ours: The version of the process that sends the work.

    Raises:
        ClusterError: When they differ.
    """
    if theirs != ours:
        raise ClusterError(f"gan-denoise is {theirs or 'another one'} on {host}, and {ours} here",
                           "every machine of the cluster needs the same version")
