"""Charts: values and margins lie where the axis says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_denoise.evaluation.report.charts import Value, chart

NUMBERS = st.floats(-1e4, 1e4).filter(lambda x: x == 0 or abs(x) > 1e-4)
MARGINS = st.floats(0, 1e3).filter(lambda x: x == 0 or x > 1e-4)


@pytest.mark.parametrize("lying", [False, True])
@given(st.lists(st.tuples(NUMBERS, MARGINS), min_size=1, max_size=8))
def test_points_lie_where_the_ticks_say(lying, values):
    found = chart("t", "a", [str(n) for n in range(len(values))],
                  {"s": [Value(mean, margin, 2) for mean, margin in values]}, lying)
    ticks = [(at, float(label)) for at, label in found.ticks]
    assert 2 <= len(ticks) <= 8
    (first, low), (last, high) = ticks[0], ticks[-1]
    scale = (last - first) / (high - low)  # pixels for a unit

    def place(value):
        return first + scale * (value - low)

    near = pytest.approx
    assert found.zero == near(place(0.0), abs=0.3)
    for (mean, margin), point in zip(values, found.series[0].points, strict=True):
        along = point.x if lying else point.y
        assert along == near(place(mean), abs=0.3)
        assert point.low == near(place(mean - margin), abs=0.3)
        assert point.high == near(place(mean + margin), abs=0.3)
        assert 0 <= point.x <= found.width
        assert 0 <= point.y <= found.height


def test_more_is_higher_and_further_right():
    values = {"s": [Value(1.0, None, 1), Value(2.0, 0.5, 3)]}
    upright, lying = (chart("t", "a", ["x", "y"], values, way) for way in (False, True))
    (low, high), (left, right) = (each.series[0].points for each in (upright, lying))
    assert low.y > high.y
    assert low.x < high.x  # the categories stand in their order
    assert left.x < right.x
    assert left.y < right.y
    assert high.words == "s, y: +2.00 ± 0.5 (3 files)"
    assert low.words == "s, x: +1.00 (1 file)"


def test_series_have_colours_and_marks_of_their_own_and_a_missing_value_no_point():
    found = chart("t", "a", ["x", "y"], {name: [Value(1.0, 0.1, 2), None] for name in "abcd"})
    assert len({(series.number, series.mark) for series in found.series}) == 4
    assert all(len(series.points) == 1 for series in found.series)
    assert len({series.points[0].x for series in found.series}) == 4  # beside one another


def test_nothing_to_show_is_an_empty_axis():
    found = chart("t", "a", ["x"], {"s": [None]})
    assert math.isfinite(found.zero)
