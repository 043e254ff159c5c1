"""Charts of improvement as positions in pixels, which the template `chart.html.j2` draws as SVG.

A chart has categories (SNRs, kinds of noise) on one axis and the improvement on the other, and for
each series a point with its 95 % margin in each category.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT = 360, 250  # pixels; as wide as a phone, so that letters keep their size
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 44  # margins round the upright chart
ROW, NAMES = 14, 116  # height for each series and width for names in the lying chart
TICKS = 5  # at most, beside that of zero
MARKS = ("circle", "square", "diamond", "triangle")
_Place = Callable[[float], float]  # from a value to its position in pixels


@dataclass(frozen=True)
class Value:
    """An improvement, turned so that more is better.

    Attributes:
        mean: The mean.
        margin: Half the width of its 95 % interval; None for one file.
        files: Number of files.
    """

    mean: float
    margin: float | None
    files: int


@dataclass(frozen=True)
class Point:
    """A point in pixels, the ends of its interval along the axis of values, and its words."""

    x: float
    y: float
    low: float
    high: float
    words: str


@dataclass(frozen=True)
class Series:
    """The points of one system; `number` chooses its colour, `mark` its shape."""

    name: str
    number: int
    mark: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """A chart in pixels.

    Attributes:
        title: What it shows.
        width: Width in pixels.
        height: Height in pixels.
        lying: Whether the categories stand below one another.
        categories: (position, label) of each.
        ticks: (position, label) of the axis of values.
        zero: Position of no improvement.
        series: What is drawn.
        axis: Name of the axis of categories.
    """

    title: str
    width: float
    height: float
    lying: bool
    categories: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float
    series: tuple[Series, ...]
    axis: str


def chart(
    title: str, axis: str, categories: Sequence[str], values: Mapping[str, Sequence[Value | None]],
    lying: bool = False,
) -> Chart:
    """Lay out a chart.

    Args:
        title: What it shows, with the unit.
        axis: Name of the axis of categories.
        categories: Their labels.
        values: `{series: a value for each category}`; None where there is none.
        lying: Whether the categories stand below one another, for long labels.
    """
    height = TOP + BOTTOM + (ROW * len(values) + 10) * len(categories) if lying else HEIGHT
    start, stop = (NAMES, WIDTH - RIGHT) if lying else (height - BOTTOM, TOP)
    ticks, place = _scale([v for row in values.values() for v in row if v], start, stop)
    first, last = (TOP, height - BOTTOM) if lying else (LEFT, WIDTH - RIGHT)
    step = (last - first) / max(len(categories), 1)
    middles = [first + step * (number + 0.5) for number in range(len(categories))]
    gap = ROW if lying else min(9.0, 0.6 * step / max(len(values), 1))
    series = []
    for number, (name, row) in enumerate(values.items()):
        shift = gap * (number - (len(values) - 1) / 2)
        points = [_point(value, middle + shift, place, lying, f"{name}, {category}")
                  for value, middle, category in zip(row, middles, categories, strict=True)
                  if value is not None]
        series.append(Series(name, number % 7 + 1, MARKS[number % len(MARKS)], tuple(points)))
    return Chart(title, WIDTH, height, lying, tuple(zip(middles, categories, strict=True)),
                 ticks, place(0.0), tuple(series), axis)


def _scale(
    values: Sequence[Value], start: float, stop: float
) -> tuple[tuple[tuple[float, str], ...], _Place]:
    """Return the ticks of an axis and the function from a value to its position in pixels."""
    ends = [value.mean + sign * (value.margin or 0.0) for value in values for sign in (-1, 1)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.04 * (high - low) or 0.5
    low, high = (low - room if low < 0 else low), high + room

    def place(value: float) -> float:
        return round(start + (stop - start) * (value - low) / (high - low), 1)

    step = _round_step((high - low) / TICKS)
    numbers = np.arange(math.ceil(low / step), math.floor(high / step) + 1)
    return tuple((place(number * step), f"{number * step:.6g}") for number in numbers), place


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def _point(value: Value, across: float, place: _Place, lying: bool, words: str) -> Point:
    margin = value.margin or 0.0
    along, low, high = (place(value.mean + shift) for shift in (0.0, -margin, margin))
    error = "" if value.margin is None else f" ± {value.margin:.2g}"
    count = f"{value.files} file{'s' if value.files > 1 else ''}"
    x, y = (along, round(across, 1)) if lying else (round(across, 1), along)
    return Point(x, y, low, high, f"{words}: {value.mean:+.2f}{error} ({count})")
