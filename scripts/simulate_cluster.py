"""Predicts how long many workers take for a folder or an archive, and measures whether it is so.

    python scripts/simulate_cluster.py measure FOLDER -o costs.json    # what one core takes
    python scripts/simulate_cluster.py check FOLDER OTHER              # predicted and measured here
    python scripts/simulate_cluster.py folder costs.json FOLDER        # the time for that folder
    python scripts/simulate_cluster.py scale costs.json --hours 10000  # more and more workers
    python scripts/simulate_cluster.py train real-16k-pretrain data.speech=DIR data.noise=DIR
    python scripts/simulate_cluster.py train --check real-16k-pretrain data.speech=DIR ...

What is measured is CPU seconds of this machine. What a site is like (`SITES`) is assumed, and can
be said otherwise: --site-bandwidth and so on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cluster_check
import cluster_training
from cluster_costs import JOURNAL_LINES, Costs, measure
from cluster_simulation import Outcome, Step, Task, dealt, shared, simulate

from gan_denoise import audio
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.inference.folder import BATCH_FILES, BATCH_SECONDS
from gan_denoise.inference.folder_plan import PROBES

MOST_TASKS = 60_000  # simulated; of more, a share whose time is multiplied
REQUESTS = 4  # to the store for a file: open, read, write, rename
COUNTS = (1, 10, 30, 100, 300, 1000, 3000, 10000)


@dataclass(frozen=True)
class Site:
    """A cluster, as it is assumed.

    Attributes:
        bandwidth: Bytes a second of the store, for all workers together.
        requests: Requests a second that the store answers.
        latency: Seconds until a request is answered.
        link: Bytes a second between the store and one worker.
        append: Seconds in which a worker appends one line to its journal: lock, read the last byte,
            write, unlock.
        ready: Seconds until a worker begins: the pod or the job's task is placed, the image there.
    """

    bandwidth: float
    requests: float
    latency: float
    link: float
    append: float
    ready: float


SITES = {
    # One NFS server with a link of 10 Gbit/s.
    "nfs": Site(1.25e9, 20_000, 0.0005, 1.25e8, 0.002, 20.0),
    # An object store: 100 Gbit/s, 3,500 writes a second under a prefix; the journals on NFS.
    "store": Site(1.25e10, 3_500, 0.03, 9e7, 0.002, 20.0),
}


# ---- Archives ----------------------------------------------------------------------------------
def lengths(folder: Path) -> list[float]:
    """Return the seconds of each recording below a folder."""
    return [audio.probe(path).seconds for path in audio.find_audio(folder)]


@dataclass(frozen=True)
class Archive:
    """Recordings of one length.

    Attributes:
        hours: Of audio in all.
        file_seconds: Of each recording.
    """

    hours: float
    file_seconds: float

    @property
    def files(self) -> int:
        """Number of recordings."""
        return round(3600 * self.hours / self.file_seconds)


# ---- Ways --------------------------------------------------------------------------------------
def shard_run(costs: Costs, archive: Archive, site: Site, workers: int,
              lifetimes: Iterator[float] | None = None) -> Outcome:
    """Simulate a job array with `--shard`, whose tasks read the headers of their own files.

    Args:
        costs: Of one core.
        archive: What is denoised.
        site: Where.
        workers: Tasks of the array, of one core each.
        lifetimes: Seconds after which workers are lost.
    """
    headers = archive.files / workers
    plan = (Step("requests", headers / site.requests, headers * _plan_seconds(costs, site)),
            Step(held=site.ready + costs.start))
    return _work(costs, archive, site, workers, plan, (), lifetimes, deal=True)


def driver_run(costs: Costs, archive: Archive, site: Site, workers: int,
               lifetimes: Iterator[float] | None = None) -> Outcome:
    """Simulate a driver that hands out batches, as `--ray` does; it plans before all work."""
    each = costs.decide + costs.dispatch + JOURNAL_LINES * costs.journal_read
    start = (Step(held=site.ready + costs.worker_start),)
    outcome = _work(costs, archive, site, workers, start, (each,), lifetimes, deal=False)
    plan = archive.files * _plan_seconds(costs, site) + costs.start
    return dataclasses.replace(outcome, seconds=outcome.seconds + plan, ready=outcome.ready + plan)


def _work(costs: Costs, archive: Archive, site: Site, workers: int, start: Task,
          driver: tuple[float, ...], lifetimes: Iterator[float] | None, deal: bool) -> Outcome:
    """Simulate the work, or a share of it in proportion where it is a matter of millions."""
    seconds = archive.file_seconds
    at_once = max(min(int(BATCH_SECONDS / seconds), BATCH_FILES), 1)
    count = -(-archive.files // at_once)
    # A number that each worker has the same share of: what is left over would be multiplied too.
    # Losses are too few in a part: with them all is simulated.
    some = count if lifetimes else min(count, max(MOST_TASKS // workers, 5) * workers)
    task = [
        *(Step("driver", at_once * each) for each in driver),
        Step("requests", at_once * REQUESTS / site.requests, at_once * REQUESTS * site.latency),
        _moved(at_once * seconds * costs.bytes_in, site),
        Step(held=at_once * (costs.file(seconds) + JOURNAL_LINES * site.append)),
        _moved(at_once * seconds * costs.bytes_out, site),
    ]
    places = {"requests": 1, "bandwidth": 1} | ({"driver": 1} if driver else {})
    ready = simulate([()] * workers, dealt(workers, workers), places, start).seconds
    # The work is simulated from when all are ready; one that is lost starts again beside it.
    again = sum(step.held + step.then for step in start)
    queues = (dealt if deal else shared)(some, workers)
    outcome = simulate([task] * some, queues, places, [Step(held=again)], lifetimes, noticed=30.0)
    working = (outcome.seconds - again) * count / some
    busy = {name: share * outcome.seconds / (outcome.seconds - again)
            for name, share in outcome.busy.items()}
    return dataclasses.replace(outcome, seconds=ready + working, ready=ready, busy=busy)


def _plan_seconds(costs: Costs, site: Site) -> float:
    """Return the seconds in which a command reads a header, of several at once."""
    return max(costs.plan, site.latency / PROBES, 1 / site.requests)


def _moved(size: float, site: Site) -> Step:
    """Return the step in which bytes go through the store and then through the worker's link."""
    return Step("bandwidth", size / site.bandwidth, size / site.link)


def failures(hours: float, seed: int = 0) -> Iterator[float] | None:
    """Return times at which workers are lost, one in so many hours; None for 0."""
    draws = random.Random(seed)
    return iter(lambda: draws.expovariate(1 / (3600 * hours)), None) if hours else None


# ---- Tables ------------------------------------------------------------------------------------
def scale(costs: Costs, archive: Archive, site: Site, counts: Sequence[int], lost: float) -> None:
    """Print time and what saturates, for more and more workers and each way."""
    ways = {
        "shards": lambda n: shard_run(costs, archive, site, n, failures(lost)),
        "driver": lambda n: driver_run(costs, archive, site, n, failures(lost)),
    }
    work = archive.files * costs.file(archive.file_seconds)
    print(f"{archive.files:,} files of {archive.file_seconds:g} s, {archive.hours:,.0f} hours: "
          f"{work / 3600:,.0f} core hours of work, "
          f"{3.6e-6 * archive.hours * costs.bytes_in:,.0f} GB in, "
          f"{3.6e-6 * archive.hours * costs.bytes_out:,.0f} GB out")
    for name, run in ways.items():
        print(f"\n{name}\n{'workers':>9}{'hours':>9}{'x real time':>13}{'of ideal':>10}"
              f"{'planning':>10}  saturated")
        for count in counts:
            outcome = run(count)
            print(f"{count:>9,}{outcome.seconds / 3600:>9.2f}"
                  f"{3600 * archive.hours / outcome.seconds:>13,.0f}"
                  f"{work / count / outcome.seconds:>10.0%}"
                  f"{outcome.ready / outcome.seconds:>10.0%}  {outcome.saturated}", flush=True)


def main() -> None:
    """Run one of the verbs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    measured = verbs.add_parser("measure", help="what one core of this machine takes")
    measured.add_argument("folder", type=Path, help="recordings of several lengths")
    measured.add_argument("-o", "--out", type=Path, required=True, help="JSON")
    checked = verbs.add_parser("check", help="predicted and measured on this machine")
    checked.add_argument("folder", type=Path, help="recordings that costs are measured on")
    checked.add_argument("other", type=Path, help="recordings whose time is predicted")
    for verb in (measured, checked):
        verb.add_argument("-m", "--model", default="calm", help="calm")
    one = verbs.add_parser("folder", help="the time for a folder on this machine")
    one.add_argument("costs", type=Path)
    one.add_argument("folder", type=Path)
    scaled = verbs.add_parser("scale", help="an archive on more and more workers")
    scaled.add_argument("costs", type=Path)
    scaled.add_argument("--hours", type=float, default=10_000)
    scaled.add_argument("--file-seconds", type=float, default=10.0)
    scaled.add_argument("--lost-after", type=float, default=0.0,
                        help="hours after which a worker is lost, on average (0: never)")
    scaled.add_argument("--site", choices=SITES, default="nfs")
    for name in Site.__dataclass_fields__:
        scaled.add_argument(f"--site-{name}", type=float, default=None)
    trained = verbs.add_parser("train", help="a training step on more and more workers")
    trained.add_argument("--check", action="store_true",
                         help="predicted and measured on this machine")
    trained.add_argument("config")
    trained.add_argument("settings", nargs="*")
    for verb in (checked, trained):
        verb.add_argument("--rounds", type=int, default=3, help="in turn, medians taken (3)")
    for verb in (scaled, trained):
        verb.add_argument("--workers", type=int, nargs="+", help="numbers of workers")
    options = parser.parse_args()
    if options.verb == "measure":
        text = json.dumps(dataclasses.asdict(measure(options.folder, options.model)), indent=1)
        write_atomically(options.out, lambda file: file.write(text.encode()))
        print(text)
    elif options.verb == "check":
        cluster_check.check(options.folder, options.other, options.model, options.rounds)
    elif options.verb == "folder":
        cluster_check.show_predicted(_load(options.costs), lengths(options.folder))
    elif options.verb == "train":
        if options.check:
            cluster_training.check(options.config, options.settings, options.workers or (1, 2, 4),
                                   options.rounds)
        else:
            cluster_training.table(options.config, options.settings, options.workers or COUNTS)
    else:
        given = {name: value for name in Site.__dataclass_fields__
                 if (value := getattr(options, f"site_{name}")) is not None}
        site = dataclasses.replace(SITES[options.site], **given)
        scale(_load(options.costs), Archive(options.hours, options.file_seconds), site,
              options.workers or COUNTS, options.lost_after)


def _load(path: Path) -> Costs:
    return Costs(**json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
