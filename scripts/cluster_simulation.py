"""A discrete-event simulation of workers that share a driver, a store and cores.

A task is a row of steps. A step holds one place of a resource that all workers share, first come
first served, and then takes time of the worker alone. Nothing here knows of audio;
`simulate_cluster` says which steps a recording takes.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A part of a task.

    Attributes:
        resource: Name of what all workers share; empty where nothing is.
        held: Seconds for which one place of it is taken; without one, seconds of work.
        then: Seconds that follow: latency, or the worker's own link.
    """

    resource: str = ""
    held: float = 0.0
    then: float = 0.0


Task = Sequence[Step]


@dataclass
class Outcome:
    """What came of a simulation.

    Attributes:
        seconds: From the start to the end of the last task.
        done: How often each task was done to its end, in the order of the tasks.
        lost: How often a worker was lost.
        busy: Fraction of the time for which a resource was in use, by its name.
        ready: Seconds of `seconds` that went by before the work, where it was simulated apart.
    """

    seconds: float
    done: list[int]
    lost: int
    busy: dict[str, float]
    ready: float = 0.0

    @property
    def saturated(self) -> str:
        """The resource that was most in use, or empty where none was for half the time."""
        name = max(self.busy, key=self.busy.__getitem__, default="")
        return name if name and self.busy[name] >= 0.5 else ""


class _Resources:
    """What workers share; whoever comes first is served first."""

    def __init__(self, places: Mapping[str, int]):
        self._free = {name: [0.0] * count for name, count in places.items()}  # heaps of times
        self._held = dict.fromkeys(places, 0.0)

    def take(self, step: Step, now: float) -> float:
        """Return when a step that is asked for now is at its end."""
        if not step.resource:
            return now + step.held + step.then
        free = self._free[step.resource]
        end = max(now, free[0]) + step.held
        heapq.heapreplace(free, end)
        self._held[step.resource] += step.held
        return end + step.then

    def busy(self, seconds: float) -> dict[str, float]:
        return {name: held / (seconds * len(self._free[name])) if seconds else 0.0
                for name, held in self._held.items()}


@dataclass
class _Worker:
    queue: deque[int]
    steps: Iterator[Step]
    dies: float
    task: int | None = None
    is_lost: bool = False

    def give_back(self) -> None:
        if self.task is not None:
            self.queue.appendleft(self.task)
        self.task = None


def shared(count: int, workers: int) -> list[deque[int]]:
    """Return one queue of all tasks for all workers: each takes the next when it is free."""
    return [deque(range(count))] * workers


def dealt(count: int, workers: int) -> list[deque[int]]:
    """Return a queue for each worker, as `--shard` deals the tasks out."""
    return [deque(range(number, count, workers)) for number in range(workers)]


def simulate(
    tasks: Sequence[Task],
    queues: Sequence[deque[int]],
    places: Mapping[str, int],
    start: Task = (),
    lifetimes: Iterator[float] | None = None,
    noticed: float = 0.0,
) -> Outcome:
    """Do all tasks.

    When the loss of a worker is noticed, its task goes back to the front of its queue, and the
    worker starts again. What it held stays taken to its end, as a store goes on with a request
    whose sender is gone.

    Args:
        tasks: The steps of each task.
        queues: For each worker the numbers of the tasks that it takes; several may share one. They
            are emptied.
        places: How many of a resource there are, by its name.
        start: What a worker does before its first task, and again after it was lost.
        lifetimes: Seconds after which workers are lost, drawn one by one; None: never.
        noticed: Seconds until the loss of a worker is noticed.
    """
    resources = _Resources(places)
    lifetimes = itertools.repeat(math.inf) if lifetimes is None else lifetimes
    workers = [_Worker(queue, iter(start), next(lifetimes)) for queue in queues]
    done, lost, end = [0] * len(tasks), 0, 0.0
    events = [(0.0, number) for number in range(len(workers))]  # a heap: when a worker goes on
    while events:
        now, number = heapq.heappop(events)
        worker = workers[number]
        if worker.is_lost:
            lost += 1
            worker.give_back()
            worker.is_lost, worker.steps = False, iter(start)
            worker.dies = now + next(lifetimes)
        step = next(worker.steps, None)
        if step is not None:
            until = resources.take(step, now)
            if until > worker.dies:
                worker.is_lost, until = True, worker.dies + noticed
            heapq.heappush(events, (until, number))
            continue
        if worker.task is not None:
            done[worker.task] += 1
            worker.task, end = None, now
        if worker.queue:
            worker.task = worker.queue.popleft()
            worker.steps = iter(tasks[worker.task])
            heapq.heappush(events, (now, number))
    return Outcome(end, done, lost, resources.busy(end))


def all_reduce_seconds(workers: int, size: float, bandwidth: float, latency: float) -> float:
    """Return the time in which a ring of workers adds up gradients.

    Each worker sends and receives 2 (N - 1) messages of 1/N of the gradients (Patarasuk and Yuan,
    2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations").

    Args:
        workers: Number of workers N.
        size: Bytes of the gradients.
        bandwidth: Bytes a second of each worker's link.
        latency: Seconds of one message.
    """
    if workers == 1:
        return 0.0
    return 2 * (workers - 1) * (size / workers / bandwidth + latency)
