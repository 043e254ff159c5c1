"""Random numbers that are a function of (seed, step, index)."""

from __future__ import annotations

import numpy as np


def random_stream(seed: int, step: int, index: int) -> np.random.Generator:
    """Return the random numbers of one item; streams of different items never overlap.

    A counter-based generator (Philox: Salmon et al. 2011) begins each item at a place of its own.

    Args:
        seed: Key of the generator, from 0.
        step: Training step, or what keeps the streams of one use apart from those of another.
        index: Number of the item within the step.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=(step << 64 | index) << 128))
