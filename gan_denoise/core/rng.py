"""Random numbers that are a function of (seed, step, index)."""

from __future__ import annotations

import numpy as np


def random_stream(seed: int, step: int, index: int) -> np.random.Generator:
    """Return the random numbers of one item; streams of different items never overlap."""
    return np.random.Generator(np.random.Philox(key=seed, counter=(step << 64 | index) << 128))
