"""Layers of the generators that Keras does not have."""

from __future__ import annotations

import math

import keras
from keras import layers, ops

from gan_denoise.dsp.keras_bounds import gain_decibels, lower_bound, sigmoid


@keras.saving.register_keras_serializable("gan_denoise")
class RelativeLevel(layers.Layer):
    """Take the mean level around each frame off its mel, so that a louder recording looks alike.

    The mean is of linear mels over all bands, so pauses hardly move it, over a finite window: this
    is a filter, not a statistic of the file. With the gain head the output follows the input's
    level by construction.

    Args:
        frames: Length of the window.
        range_db: Decibels that mel01's [0, 1] stands for.
    """

    CENTRE = 0.75  # of mel01: where a mel at its own mean level is put

    def __init__(self, frames: int, range_db: float, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)  # linear mels overflow float16
        self.frames, self.range_db = frames, range_db

    def call(self, mel):
        to_log = self.range_db * math.log(10) / 20  # mel01 -> natural log of the linear mel
        linear = ops.mean(ops.exp(mel * to_log), axis=-1, keepdims=True)  # [B, T, 1]
        # Padding is left out of the mean at both ends.
        mean = ops.average_pool(linear, self.frames, strides=1, padding="same")
        return mel - ops.log(mean) / to_log + self.CENTRE

    def get_config(self):
        return super().get_config() | {"frames": self.frames, "range_db": self.range_db}


@keras.saving.register_keras_serializable("gan_denoise")
class GainHead(layers.Layer):
    """Add a bounded log-gain to the noisy mel: the linear gain lies in (10^(-floor/20), 1).

    Args:
        floor_db: Deepest cut.
        range_db: Decibels that mel01's [0, 1] stands for.
    """

    def __init__(self, floor_db: float, range_db: float, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.floor_db, self.range_db = floor_db, range_db

    def call(self, inputs):
        noisy, logits = inputs
        return lower_bound(noisy + gain_decibels(logits, self.floor_db) / self.range_db, 0.0)

    def get_config(self):
        return super().get_config() | {"floor_db": self.floor_db, "range_db": self.range_db}


@keras.saving.register_keras_serializable("gan_denoise")
class DirectHead(layers.Layer):
    """Turn logits into the mel itself, in (0, 1)."""

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)

    def call(self, logits):
        return sigmoid(logits)


@keras.saving.register_keras_serializable("gan_denoise")
class CropLike(layers.Layer):
    """Crop `[B, T, F, C]` to the frames and bands of a second tensor."""

    def call(self, inputs):
        x, like = inputs
        cropped = x[:, : ops.shape(like)[1], : like.shape[2], :]
        # The end of a slice is computed, and with it LiteRT's converter loses all sizes.
        return ops.reshape(cropped, (ops.shape(x)[0], -1, like.shape[2], x.shape[3]))

    def compute_output_shape(self, input_shapes):
        shape, like = input_shapes
        return (shape[0], like[1], like[2], shape[3])
