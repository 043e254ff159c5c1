"""Adversarial speech enhancement on mel spectrograms: train, measure, denoise.

Importing this package imports neither TensorFlow nor Keras.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["Enhancer", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Enhancer":  # on demand: `gan-denoise --help` needs no NumPy
        from gan_denoise.inference.enhancer import Enhancer

        return Enhancer
    raise AttributeError(f"module 'gan_denoise' has no attribute '{name}'")
