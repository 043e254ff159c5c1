"""Adversarial speech enhancement on mel spectrograms: train, measure, denoise.

    from gan_denoise import Enhancer, evaluate, export, mix, train

Each name is imported when it is first used: importing the package imports neither NumPy nor Keras.
None of them prints; their messages go to the loggers `gan_denoise.*`.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_denoise.data.mixture_writer import MixtureSpec
    from gan_denoise.data.mixture_writer import write_pairs as mix
    from gan_denoise.evaluation.evaluate_waveforms import evaluate
    from gan_denoise.exporting.exporter import export
    from gan_denoise.inference.enhancer import Enhancer
    from gan_denoise.training.loop import train

__version__ = "0.2.0"
__all__ = ["Enhancer", "MixtureSpec", "__version__", "evaluate", "export", "mix", "train"]

_PUBLIC = {  # name: (module, its name there)
    "Enhancer": ("gan_denoise.inference.enhancer", "Enhancer"),
    "evaluate": ("gan_denoise.evaluation.evaluate_waveforms", "evaluate"),
    "export": ("gan_denoise.exporting.exporter", "export"),
    "MixtureSpec": ("gan_denoise.data.mixture_writer", "MixtureSpec"),
    "mix": ("gan_denoise.data.mixture_writer", "write_pairs"),
    "train": ("gan_denoise.training.loop", "train"),
}
_ON_TENSORFLOW = ("export", "train")

logging.getLogger(__name__).addHandler(logging.NullHandler())

if not TYPE_CHECKING:  # a type checker refuses names that are not there

    def __getattr__(name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'gan_denoise' has no attribute '{name}'")
        if name in _ON_TENSORFLOW:
            _load_tensorflow(name)
        module, attribute = _PUBLIC[name]
        return getattr(importlib.import_module(module), attribute)


def _load_tensorflow(name: str) -> None:
    """Import TensorFlow without its greeting on stderr; say what to install where it is missing."""
    from gan_denoise.core.native_libraries import load_tensorflow

    try:
        load_tensorflow()
    except ModuleNotFoundError as error:
        raise ImportError(
            f"gan_denoise.{name} needs {error.name}: pip install 'gan-denoise[train]', or "
            "'gan-denoise[train-gpu]' on Linux with an NVIDIA GPU"
        ) from error
