"""Amounts of a gain, and presets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gan_denoise.inference.options import PRESETS, Treatment

GAIN = np.linspace(0, 1, 101, dtype=np.float32)


@given(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 80)))
def test_a_softened_gain_lies_between_the_gain_and_one(strength, limit):
    softened = Treatment(strength=strength, atten_lim_db=limit).soften(GAIN)
    assert softened.dtype == np.float32
    assert (softened >= GAIN - 1e-6).all()
    assert (softened <= 1).all()
    assert (np.diff(softened) >= 0).all()
    if limit is not None:
        assert softened.min() >= np.float32(10 ** (-limit / 20)) * (1 - 1e-6)


def test_known_amounts():
    half = np.float32([0.25])
    assert Treatment().soften(half) == 0.25
    assert Treatment(strength=0.5).soften(half) == pytest.approx(0.5)
    assert Treatment(atten_lim_db=6.0206).soften(half) == pytest.approx(0.5, rel=1e-4)
    assert Treatment(strength=0.5, atten_lim_db=20.0).soften(half) == pytest.approx(0.5)
    assert (Treatment(strength=0.0).soften(GAIN) == 1).all()


def test_what_removes_nothing_says_so():
    assert Treatment(strength=0.0).neutral
    assert Treatment(atten_lim_db=0.0).neutral
    assert not Treatment(strength=0.1, atten_lim_db=0.1).neutral


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_given_goes_over_a_preset(name):
    preset = Treatment.preset(name)
    assert preset.model_dump() | dict(PRESETS[name]) == preset.model_dump()
    assert preset != Treatment()
    other = Treatment.preset(name, strength=0.25, channels=None)
    assert other == preset.model_copy(update={"strength": 0.25})


def test_values_out_of_range_are_refused():
    for wrong in ({"strength": 1.1}, {"strength": -0.1}, {"atten_lim_db": -3.0},
                  {"channels": "both"}, {"format": "mp4"}, {"bit_rate": 0}, {"loud": True}):
        with pytest.raises(ValidationError):
            Treatment(**wrong)
    with pytest.raises(KeyError):
        Treatment.preset("radio")
