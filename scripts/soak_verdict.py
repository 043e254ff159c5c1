"""The verdict of `soak` on what it saw of a long run: does anything grow?"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Sample = dict[str, float]
COLUMNS = ("seconds", "work", "cpu_seconds", "yardstick", "memory_mb", "handles", "threads",
           "temporary", "files", "logged_mb")
MEMORY = 8.0  # MB by which the mean may grow: the results of 12,000 files, 0.5 kB each, are 6
SPEED = 0.05  # share by which the speed may differ
LOGGED = 1.0  # MB of curves, pictures and sounds for 1,000 steps, in the last fifth


@dataclass(frozen=True)
class Series:
    """A series of a run: its figures in the second and in the last fifth, and the judgement."""

    name: str
    early: float
    late: float
    flat: bool


def verdict(samples: Sequence[Sample]) -> list[Series]:
    """Judge a run by its second and its last fifth: in the first, caches and pools fill.

    Memory is compared by the mean. Handles, threads and temporary files come and go: the median of
    each may rise by one, where a pool fills late, and by twice what it is uncertain by.

    Args:
        samples: By time, ten or more.
    """
    fifth = len(samples) // 5
    early, late = samples[fifth : 2 * fifth], samples[-fifth:]

    def series(name: str, figure: Callable[[Sequence[Sample]], float],
               flat: Callable[[float, float], bool]) -> Series:
        before, after = figure(early), figure(late)
        return Series(name, before, after, bool(flat(before, after)))

    def coming_and_going(name: str) -> Series:
        slack = 1 + 2 * np.hypot(*(median_error(part, name) for part in (early, late)))
        return series(name, lambda part: _of(part, name, np.median),
                      lambda before, after: after <= before + slack)

    return [
        series("memory (MB)", lambda part: _of(part, "memory_mb", np.mean),
               lambda before, after: after <= before + MEMORY),
        *map(coming_and_going, ("handles", "threads", "temporary")),
        series("work per yardstick", speed,
               lambda before, after: abs(after - before) <= SPEED * before),
        series("logged MB per 1,000", lambda part: 1000 * slope(part, "logged_mb", "work"),
               lambda before, after: after <= LOGGED),
    ]


def speed(samples: Sequence[Sample]) -> float:
    """Return the work in the processor time of a hundred fixed computations.

    Other programs slow both down, by the caches and the clock that they share.
    """
    return 100 * slope(samples, "work", "cpu_seconds") * _of(samples, "yardstick", np.mean)


def median_error(samples: Sequence[Sample], name: str) -> float:
    """Return the standard error of a column's median, as of independent normal samples."""
    return np.sqrt(np.pi / 2 / len(samples)) * _of(samples, name, np.std)


def _of(samples: Sequence[Sample], name: str, figure: Callable[[list[float]], float]) -> float:
    return float(figure([s[name] for s in samples]))


def slope(samples: Sequence[Sample], of: str, per: str) -> float:
    """Return how fast one column grows with another: the slope of the line through all samples."""
    x, y = (np.array([s[name] for s in samples]) for name in (per, of))
    x = x - x.mean()
    return float(x @ y / (x @ x)) if x.any() else 0.0


def read(table: Path) -> list[Sample]:
    """Return the samples of a run."""
    with open(table, newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()}
                for row in csv.DictReader(file)]


def judge(table: Path) -> bool:
    """Print the verdict on a run; return whether all is flat."""
    samples = read(table)
    if len(samples) < 10:
        print(f"{table}: {len(samples)} samples are too few")
        return False
    last = samples[-1]
    print(f"{last['work']:.0f} done in {last['seconds'] / 60:.1f} min, of which "
          f"{last['cpu_seconds'] / 60:.1f} min of processor time; {len(samples)} samples")
    print(f"{'':22}{'second fifth':>14}{'last fifth':>14}")
    found = verdict(samples)
    for series in found:
        print(f"{series.name:22}{series.early:>14.3f}{series.late:>14.3f}  "
              f"{'flat' if series.flat else 'NOT FLAT'}")
    return all(series.flat for series in found)
