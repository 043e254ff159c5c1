"""Amounts of a gain, and presets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gan_denoise.inference.chunks import limit_gain
from gan_denoise.inference.options import PRESETS, DenoiseOptions

GAIN = np.linspace(0, 1, 101, dtype=np.float32)


@given(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 80)))
def test_a_limited_gain_lies_between_the_gain_and_one(strength, limit):
    limited = limit_gain(GAIN, DenoiseOptions(strength=strength, atten_lim_db=limit))
    assert limited.dtype == np.float32
    assert (limited >= GAIN - 1e-6).all()
    assert (limited <= 1).all()
    assert (np.diff(limited) >= 0).all()
    if limit is not None:
        assert limited.min() >= np.float32(10 ** (-limit / 20)) * (1 - 1e-6)


def test_known_amounts():
    half = np.float32([0.25])
    assert limit_gain(half, DenoiseOptions()) == 0.25
    assert limit_gain(half, DenoiseOptions(strength=0.5)) == pytest.approx(0.5)
    assert limit_gain(half, DenoiseOptions(atten_lim_db=6.0206)) == pytest.approx(0.5, rel=1e-4)
    assert limit_gain(half, DenoiseOptions(strength=0.5, atten_lim_db=20.0)) == pytest.approx(0.5)
    assert (limit_gain(GAIN, DenoiseOptions(strength=0.0)) == 1).all()


def test_what_removes_nothing_says_so():
    assert DenoiseOptions(strength=0.0).removes_nothing
    assert DenoiseOptions(atten_lim_db=0.0).removes_nothing
    assert not DenoiseOptions(strength=0.1, atten_lim_db=0.1).removes_nothing


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_given_goes_over_a_preset(name):
    preset = DenoiseOptions.preset(name)
    assert preset.model_dump() | dict(PRESETS[name]) == preset.model_dump()
    assert preset != DenoiseOptions()
    other = DenoiseOptions.preset(name, strength=0.25, channels=None)
    assert other == preset.model_copy(update={"strength": 0.25})


def test_values_out_of_range_are_refused():
    for wrong in ({"strength": 1.1}, {"strength": -0.1}, {"atten_lim_db": -3.0},
                  {"channels": "both"}, {"format": "mp4"}, {"bit_rate": 0}, {"loud": True}):
        with pytest.raises(ValidationError):
            DenoiseOptions(**wrong)
    with pytest.raises(KeyError):
        DenoiseOptions.preset("radio")
