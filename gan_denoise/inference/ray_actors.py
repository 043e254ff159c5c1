"""Actors of a folder run on a Ray cluster, which begin before the run does."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

from gan_denoise.core.ray_cluster import connect

EARLY = 8  # actors that are asked for before it is known how many files there are


class Actors:
    """Actors of the class `Denoiser`, of one CPU each; the first ones are asked for at once.

    Attributes:
        ray: The module, connected.
        count: How many there may be at once: as many as were asked for, or the cluster has CPUs.
    """

    def __init__(self, ray: Any, workers: int = 0):
        """Ask for the first actors; each begins when the cluster has a CPU for it.

        Args:
            ray: The module, connected.
            workers: Number of actors; 0: as many as the cluster has CPUs.
        """
        from gan_denoise.inference.ray_denoiser import CONTROL, Denoiser  # imports Ray

        self.ray = ray
        self.count = workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        self._class = ray.remote(num_cpus=1, max_restarts=0, concurrency_groups={CONTROL: 1},
                                 enable_task_events=False)(Denoiser)  # a dashboard's alone
        self._idle = deque(self._class.remote() for _ in range(min(self.count, EARLY)))

    def take(self) -> Any:
        """Return the handle of an actor that nobody has."""
        try:
            return self._idle.popleft()
        except IndexError:
            return self._class.remote()

    def keep(self, count: int) -> None:
        """End the idle actors but for the first so many: they hold CPUs that others wait for.

        An actor ends when its last handle goes. One that is killed amid its creation would keep
        its CPU for as long as this process is connected (Ray 2.60).
        """
        while len(self._idle) > count:
            self._idle.pop()


@contextlib.contextmanager
def actors_on(address: str, workers: int = 0) -> Iterator[Actors]:
    """Connect to a cluster for a `with` block, and ask for actors.

    Args:
        address: As in `ray_cluster.connect`.
        workers: Number of actors; 0: as many as the cluster has CPUs.

    Raises:
        ClusterError: When the cluster cannot be reached.
    """
    with connect(address, workers) as ray:
        actors = Actors(ray, workers)
        try:
            yield actors
        finally:
            actors.keep(0)
