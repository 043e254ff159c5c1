"""Training workers on a Ray cluster: an actor for each, which holds the worker's process.

Not Ray Train, which runs training in a thread, where Ctrl-C cannot ask for a checkpoint, and ends
its workers at once instead; it also needs pandas, pyarrow and tensorboardX, and a second process
beside the workers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.ray_cluster import ClusterError
from gan_denoise.core.ray_jobs import Cluster, Surroundings, enter
from gan_denoise.training.worker_processes import (
    COMMAND,
    End,
    Line,
    WorkerProcess,
    follow,
    free_ports,
)

PLACE_SECONDS = 5.0  # after which it is said that the cluster has no room
ANSWER_SECONDS = 5.0  # for an actor to end its process
_CONTROL = "control"  # calls that are answered while an actor waits for a line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """A command that several workers run together.

    Attributes:
        arguments: See `WorkerProcess`.
        run_dir: The run, on a path that all machines share.
        inputs: Other files and folders that all workers must find.
        cpus: CPUs that each worker takes of the cluster.
        module: See `WorkerProcess`.
    """

    arguments: Sequence[str]
    run_dir: Path
    inputs: Iterable[Path] = ()
    cpus: int = 1
    module: str = COMMAND


# ---- On the machines of the cluster ------------------------------------------------------------
class TrainingActor:
    """Starts the process of a worker, and passes on what it says.

    Args:
        index: Number of the worker.
        gpu: Whether it has a GPU of the cluster.
    """

    def __init__(self, index: int, gpu: bool):
        self._index = index
        if not gpu:  # Ray would leave it those of the machine
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

    def address(self) -> tuple[str, str]:
        """Return the name of the machine, and `HOST:PORT` of the worker."""
        import ray

        host = ray.util.get_node_ip_address()
        return platform.node(), f"{f'[{host}]' if ':' in host else host}:{free_ports(1)[0]}"

    def start(self, job: TrainingJob, hosts: list[str], surroundings: Surroundings) -> None:
        """Start the process; see `ray_jobs.enter` for the errors."""
        enter(surroundings)
        self._process = WorkerProcess(job.arguments, hosts, self._index, job.module)

    def receive(self) -> Line | End:
        """See `Worker`; what it prints is in the log that Ray keeps of this actor, too."""
        message = self._process.receive()
        if isinstance(message, Line):
            print(message.text, file=sys.stderr)
        return message

    def interrupt(self) -> None:
        """See `Worker`."""
        self._process.interrupt()

    def kill(self) -> None:
        """See `Worker`."""
        self._process.kill()


# ---- On this machine ---------------------------------------------------------------------------
class RayWorker:
    """A worker of a cluster, see `Worker`.

    Args:
        ray: The module, connected.
        actor: That holds the worker's process.
        machine: Its name.
    """

    def __init__(self, ray: Any, actor: Any, machine: str):
        self._ray, self._actor, self.place = ray, actor, f" on {machine}"

    def receive(self) -> Line | End:
        """See `Worker`."""
        try:
            return self._ray.get(self._actor.receive.remote())
        except self._ray.exceptions.RayError:
            return End(None)

    def interrupt(self) -> None:
        """See `Worker`."""
        self._actor.interrupt.options(concurrency_group=_CONTROL).remote()

    def kill(self) -> None:
        """See `Worker`."""
        killed = self._actor.kill.options(concurrency_group=_CONTROL).remote()
        with contextlib.suppress(self._ray.exceptions.RayError):  # it is gone
            self._ray.get(killed, timeout=ANSWER_SECONDS)
        self._ray.kill(self._actor)


def train_on_cluster(
    cluster: Cluster, job: TrainingJob, show: Callable[[int, Line], None]
) -> None:
    """Run a command in several workers of a cluster; see `follow` for `show` and the errors.

    A worker has one GPU where the cluster has one for each, else none. It waits until there is room
    for all.

    Args:
        cluster: Where, and how many workers.
        job: The command.
        show: See `follow`.

    Raises:
        ClusterError: When Ray cannot be reached, or a machine does not see the folders.
    """
    room = replace(cluster, workers=cluster.workers * job.cpus)  # of a Ray that starts here
    with room.pool(lambda: "training", inputs=job.inputs) as pool:
        ray = pool.ray
        with _placed(ray, cluster.workers, job.cpus) as actors, _unwrapped(ray):
            places = ray.get([actor.address.remote() for actor in actors])
            hosts = [host for _, host in places]
            with pool.writing_to(job.run_dir):
                ray.get([actor.start.remote(job, hosts, pool.surroundings())
                         for actor in actors])
            follow([RayWorker(ray, actor, machine)
                    for actor, (machine, _) in zip(actors, places, strict=True)], show)


@contextlib.contextmanager
def _placed(ray: Any, workers: int, cpus: int) -> Iterator[list[Any]]:
    """Make actors, on as many machines as there are; they end with the `with` block."""
    from ray.util import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    gpus = int(ray.cluster_resources().get("GPU", 0) >= workers)
    bundle = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
    group = placement_group([bundle] * workers, strategy="SPREAD")
    try:
        if not group.wait(PLACE_SECONDS):
            logger.info("waits until the cluster has room for %d workers of %d CPU%s", workers,
                        cpus, "" if cpus == 1 else "s")
            ray.get(group.ready())
        made = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0,
                          concurrency_groups={_CONTROL: 1})(TrainingActor)
        yield [made.options(scheduling_strategy=PlacementGroupSchedulingStrategy(
                   group, placement_group_bundle_index=index)).remote(index, bool(gpus))
               for index in range(workers)]
    finally:
        remove_placement_group(group)


@contextlib.contextmanager
def _unwrapped(ray: Any) -> Iterator[None]:
    """Raise what actors raise as it is where a user can mend it."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (GanDenoiseError, OSError)):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise ClusterError(
            f"a training worker could not start: {' '.join(str(error).split())[:300]}",
            "every machine of the cluster needs this version of gan-denoise[train]") from None
