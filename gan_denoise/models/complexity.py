"""What a network costs: multiply-accumulates a frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def macs_per_frame(generator: keras.Model) -> float:
    """Return the multiply-accumulates of a generator's layers with a kernel, for one frame."""
    import keras

    frames = generator.input_shape[1] or 64  # a multiple of every time stride
    layers = [layer for layer in generator.layers if hasattr(layer, "kernel")]
    total = 0
    for layer in layers:
        transposed = isinstance(layer, keras.layers.Conv2DTranspose)
        place = layer.input if transposed else layer.output  # where its kernel is applied
        shape = keras.Model(generator.input, place).compute_output_shape(
            (1, frames, generator.input_shape[-1])
        )
        total += math.prod(shape[1:-1]) * math.prod(layer.kernel.shape)
    return total / frames
