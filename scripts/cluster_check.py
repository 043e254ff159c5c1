"""Predicts what a folder takes on one machine, and measures it.

A folder is done by processes and shares. A run over it is compared by the time that it would take
with the cores to itself: the CPU seconds of its slowest process, or of all of them over the cores
where there are more processes than cores. The clock says this only on an idle machine, and is shown
beside it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from cluster_costs import Costs, measure, median
from cluster_simulation import Step, dealt, shared, simulate

from gan_denoise import audio
from gan_denoise.core.processes import cores
from gan_denoise.inference.folder import BATCH_FILES, BATCH_SECONDS

TICKS = 100.0  # of a second, in /proc on Linux
POLL_SECONDS = 0.05
RUNS = {"-j 1": (1, 1), "-j 2": (1, 2), "--shard 1/1": (1, 1), "--shard of 2": (2, 1),
        "--shard of 4": (4, 1)}  # (commands at once, processes of each)


# ---- Predicted ---------------------------------------------------------------------------------
def batches(files: Sequence[float], jobs: int) -> list[list[float]]:
    """Return files, by their seconds, in the groups that a process takes at once."""
    most = max(min(BATCH_FILES, len(files) // (4 * jobs)), 1)
    found: list[list[float]] = []
    for seconds in sorted(files, reverse=True):
        if not found or len(found[-1]) == most or sum(found[-1]) + seconds > BATCH_SECONDS:
            found.append([])
        found[-1].append(seconds)
    return found


def predict(costs: Costs, files: Sequence[float], commands: int, jobs: int, on: int) -> float:
    """Return the seconds in which commands with a share each denoise files on one machine.

    Args:
        costs: Of one core.
        files: The seconds of each recording.
        commands: Number of commands, each with its `--shard`.
        jobs: Number of processes of each command.
        on: Number of cores.
    """
    plan = costs.start + len(files) * costs.plan
    if jobs == 1:
        tasks = [[Step("cores", costs.decide + costs.file(seconds))] for seconds in files]
        return simulate(tasks, dealt(len(files), commands), {"cores": on},
                        [Step("cores", plan)]).seconds
    tasks = [[Step("driver", len(batch) * (costs.decide + costs.dispatch)),
              Step("cores", sum(map(costs.file, batch)))] for batch in batches(files, jobs)]
    return plan + simulate(tasks, shared(len(tasks), jobs), {"cores": on, "driver": 1},
                           [Step("cores", costs.worker_start)]).seconds


def show_predicted(costs: Costs, files: Sequence[float]) -> None:
    """Print the predicted time for files on this machine."""
    print(f"{len(files)} files, {sum(files):.0f} s of audio, {cores()} cores")
    for name, (commands, jobs) in RUNS.items():
        print(f"{name:14}{predict(costs, files, commands, jobs, cores()):>8.2f} s")


# ---- Measured ----------------------------------------------------------------------------------
class _Watch:
    """CPU seconds of a command and of the processes that it starts, until they have ended.

    Args:
        command: It is started.
        poll: Whether its processes are told apart, by looking again and again.
    """

    def __init__(self, command: Sequence[str], poll: bool):
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._poll = poll
        self.all = self.before = 0.0  # of all; of the command before its first process
        self.workers: dict[int, float] = {}

    def follow(self) -> None:
        """Wait until the command has ended.

        Raises:
            """
        number = self._process.pid
        while self._poll and not os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            if not self.workers:
                self.before = _cpu_seconds(number)
            for worker in _children_of(number):
                self.workers[worker] = max(_cpu_seconds(worker), self.workers.get(worker, 0.0))
            time.sleep(POLL_SECONDS)
        _, status, usage = os.wait4(number, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.all = usage.ru_utime + usage.ru_stime

    @property
    def failed(self) -> bool:
        """Whether the command failed."""
        return self._process.returncode != 0

    def seconds(self, on: int) -> float:
        """Return the time that it would take with `on` cores to itself."""
        if not self.workers:
            return self.all
        return self.before + max(*self.workers.values(), (self.all - self.before) / on)


def run(folder: Path, model: str, commands: int, jobs: int, on: int) -> tuple[float, float]:
    """Denoise a folder; return the time with the cores to itself, and by the clock."""
    with tempfile.TemporaryDirectory(prefix="cluster-check-") as out:
        begun, watches, threads = time.perf_counter(), [], []
        for number in range(1, commands + 1):
            command = [sys.executable, "-m", "gan_denoise.cli", "denoise", str(folder), "-o", out,
                       "-m", model, "-j", str(jobs), "--threads", str(jobs),
                       "--shard", f"{number}/{commands}"]
            watches.append(_Watch(command, poll=jobs > 1))
            threads.append(threading.Thread(target=watches[-1].follow))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if any(watch.failed for watch in watches):
            raise SystemExit("a run failed: see above")
        elapsed = time.perf_counter() - begun
    alone = [watch.seconds(on) for watch in watches]
    return max(*alone, sum(alone) / on), elapsed


def check(folder: Path, other: Path, model: str, rounds: int) -> None:
    """Measure costs on one folder, predict another, denoise it, and print both.

    Args:
        folder: What costs are measured on.
        other: What is predicted and denoised.
        model: Model folder, or name of a shipped model.
        rounds: How often, in turn; medians are shown.
    """
    files = [audio.probe(path).seconds for path in audio.find_audio(other)]
    on, costs, rows = cores(), [], {name: [] for name in RUNS}
    for _ in range(rounds):
        costs.append(measure(folder, model))
        for name, (commands, jobs) in RUNS.items():
            rows[name].append(run(other, model, commands, jobs, on))
    print(f"{len(files)} files, {sum(files):.0f} s of audio, {on} cores, {rounds} rounds; seconds")
    print(f"{'':14}{'predicted':>10}{'measured':>10}{'off by':>8}{'clock':>8}")
    for name, (commands, jobs) in RUNS.items():
        predicted = predict(median(costs), files, commands, jobs, on)
        measured, clock = (statistics.median(column) for column in zip(*rows[name], strict=True))
        print(f"{name:14}{predicted:>10.2f}{measured:>10.2f}{predicted / measured - 1:>+8.0%}"
              f"{clock:>8.1f}")


# ---- Linux -------------------------------------------------------------------------------------
def _stat(number: int) -> list[str]:
    """Return what Linux says of a process, from its state on; empty where it has ended."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _cpu_seconds(number: int) -> float:
    """Return the CPU seconds of a process; 0 where it has ended."""
    fields = _stat(number)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def _children_of(number: int) -> list[int]:
    """Return the processes whose parent is a process."""
    others = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [other for other in others if _stat(other)[1:2] == [str(number)]]
