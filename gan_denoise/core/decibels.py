"""Ratios and decibels: 20 log10 of amplitudes, 10 log10 of powers and energies."""

from __future__ import annotations

import math


def amplitude_to_db(ratio: float) -> float:
    """Return a ratio of amplitudes in dB; minus infinity for zero."""
    return 20 * math.log10(ratio) if ratio > 0 else -math.inf


def power_to_db(ratio: float) -> float:
    """Return a ratio of powers or energies in dB; minus infinity for zero."""
    return 10 * math.log10(ratio) if ratio > 0 else -math.inf


def db_to_amplitude(decibels: float) -> float:
    """Return the ratio of amplitudes of a level in dB."""
    return 10 ** (decibels / 20)


def db_to_power(decibels: float) -> float:
    """Return the ratio of powers or energies of a level in dB."""
    return 10 ** (decibels / 10)
