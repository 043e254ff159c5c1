"""JSON of many levels is refused; all else is as Python reads it."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_denoise.core.json_text import MOST_LEVELS, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(alphabet=st.sampled_from('[]{}"\\,:a\n\u20ac')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(alphabet=st.sampled_from('[]{}"\\a')), inner, max_size=4), max_leaves=200)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_what_has_few_levels_is_read_as_it_was_written(value, ascii_alone, indent):
    text = json.dumps(value, ensure_ascii=ascii_alone, indent=indent)
    assert parse_json(text) == parse_json(text.encode()) == value


@given(st.text(alphabet=st.sampled_from('[]{}"\\,:1 ')))
def test_any_text_is_read_or_refused_as_python_does(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011
            parse_json(text)
    else:
        assert parse_json(text) == expected


def test_the_limit_is_of_levels_not_of_brackets():
    assert parse_json("[" * MOST_LEVELS + "]" * MOST_LEVELS)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1))
    assert len(parse_json("[" + ",".join(['{"a": ["[{"]}'] * 1000) + "]")) == 1000


@pytest.mark.parametrize("text", [
    '"\\"' * 200_000, '"' + "\\\\" * 200_000, '"' * 400_001], ids=range(3))
def test_a_text_of_quotes_takes_no_time_by_its_square(text):
    begun = time.perf_counter()
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json("[" * 60 + text)
    assert time.perf_counter() - begun < 20  # by the square: minutes
