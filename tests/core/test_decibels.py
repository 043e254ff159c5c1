"""Ratios and decibels: known values, and there and back."""

from __future__ import annotations

import math

import pytest

from gan_denoise.core.decibels import amplitude_to_db, db_to_amplitude, db_to_power, power_to_db


def test_known_ratios():
    assert [amplitude_to_db(ratio) for ratio in (1, 10, 0.1, 0)] == [0, 20, -20, -math.inf]
    assert [power_to_db(ratio) for ratio in (1, 10, 0.1, 0)] == [0, 10, -10, -math.inf]
    assert amplitude_to_db(2) == pytest.approx(6.0206, abs=1e-4)


@pytest.mark.parametrize("db", [-90.0, -3.0, 0.0, 12.5])
def test_there_and_back(db):
    assert amplitude_to_db(db_to_amplitude(db)) == pytest.approx(db)
    assert power_to_db(db_to_power(db)) == pytest.approx(db)
    assert db_to_amplitude(db) ** 2 == pytest.approx(db_to_power(db))
