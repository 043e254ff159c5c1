"""Past estimates with their scores, that a metric discriminator trains on again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


class Replay:
    """Past estimates with their scores, the oldest replaced first; part of a checkpoint.

    A discriminator that trains on the newest estimates alone forgets what worse ones sound like.

    Args:
        size: Number of clips that are kept.
        frames: Length of a clip in frames.
        bands: Bands of its mel.
    """

    def __init__(self, size: int, frames: int, bands: int):
        import tensorflow as tf

        def variable(name: str, shape: tuple[int, ...], kind: type) -> tf.Variable:
            return tf.Variable(np.zeros(shape, kind), trainable=False, name=name)

        # Half precision: a thousandth of mel01, 0.1 dB.
        self.clean = variable("clean", (size, frames, bands), np.float16)
        self.candidate = variable("candidate", (size, frames, bands), np.float16)
        self.score = variable("score", (size,), np.float32)
        self.count = variable("count", (), np.int64)
        self.variables = [self.clean, self.candidate, self.score, self.count]

    def add(self, clean: np.ndarray, candidate: np.ndarray, score: np.ndarray) -> None:
        """Keep clips `[clips, frames, bands]` with their scores `[clips]`."""
        import tensorflow as tf

        size, count = self.score.shape[0], int(self.count)
        places = (np.arange(len(score)) + count) % size
        for variable, values in ((self.clean, clean), (self.candidate, candidate),
                                 (self.score, score)):
            variable.scatter_nd_update(places[:, None], tf.cast(values, variable.dtype))
        self.count.assign(count + len(score))

    def draw(self, clips: int, rng: np.random.Generator) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return (clean, candidate, score) of clips drawn at random.

        Before there are any, the scores are NaN.
        """
        import tensorflow as tf

        kept = min(int(self.count), self.score.shape[0])
        places = rng.integers(max(kept, 1), size=clips)
        drawn = [tf.cast(tf.gather(variable, places), tf.float32)
                 for variable in (self.clean, self.candidate, self.score)]
        if not kept:
            drawn[2] = tf.fill([clips], float("nan"))
        return tuple(drawn)
