"""Denoising on ONNX Runtime alone: arrays, streams, files, folders, pipes.

Never imports TensorFlow, Keras or librosa. `Enhancer` is where one begins.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_denoise.inference.enhancer import Enhancer
    from gan_denoise.inference.folder import FolderOptions, Interrupted, enhance_folder
    from gan_denoise.inference.model import DEFAULT_MODEL, ModelError, find_model
    from gan_denoise.inference.options import PRESETS, DenoiseOptions
    from gan_denoise.inference.results import FileResult, FolderProgress

__all__ = [
    "DEFAULT_MODEL", "PRESETS", "DenoiseOptions", "Enhancer", "FileResult", "FolderOptions",
    "FolderProgress", "Interrupted", "ModelError", "enhance_folder", "find_model",
]  # fmt: skip

# By module, imported on demand: the options alone need no NumPy.
_MODULES = {
    "enhancer": ("Enhancer",),
    "folder": ("FolderOptions", "Interrupted", "enhance_folder"),
    "model": ("DEFAULT_MODEL", "ModelError", "find_model"),
    "options": ("PRESETS", "DenoiseOptions"),
    "results": ("FileResult", "FolderProgress"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
