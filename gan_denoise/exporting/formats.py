"""File formats of an exported network: ONNX, LiteRT, SavedModel; how each is written and run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.config import ConfigError
from gan_denoise.config.artifacts import NETWORK
from gan_denoise.core.leftovers import temporary_folder
from gan_denoise.core.native_libraries import load_onnxruntime

if TYPE_CHECKING:
    import keras

Run = Callable[[np.ndarray], np.ndarray]  # noisy_mel -> estimate_mel


@dataclass(frozen=True)
class Format:
    """A way to store a network.

    Attributes:
        title: Name to show.
        file: Name of its file or folder in a model folder.
        open: Reads a path; returns the network as a function.
        call: How a program in another language calls the network.
        write: Writes (network, path); None for ONNX, which every model folder holds.
    """

    title: str
    file: str
    open: Callable[[Path], Run]
    call: str
    write: Callable[[keras.Model, Path], None] | None = None


def check_formats(names: Iterable[str]) -> tuple[str, ...]:
    """Return the formats that are written, in a fixed order, ONNX always among them.

    Raises:
        ConfigError: When there is no such format.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"there is no format '{name}'", f"there are {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name == "onnx" or name in names)


def write_saved_model(network: keras.Model, path: Path) -> None:
    """Write a generator as TensorFlow's SavedModel, with named input and output."""
    import keras

    _, frames, bands = network.input_shape
    network(np.zeros((1, frames or 4, bands), np.float32))  # called once, or no export

    def serve(noisy_mel: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        return {"estimate_mel": network(noisy_mel, training=False)}

    given = keras.InputSpec("float32", (None, frames, bands), name="noisy_mel")
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serve", serve, input_signature=[given])
    archive.write_out(path, verbose=False)


def write_litert(network: keras.Model, path: Path) -> None:
    """Write a generator as LiteRT (TFLite), any batch and, where it takes any, number of frames.

    Only built-in operations are allowed: LiteRT's interpreter lacks TensorFlow's own kernels
    ("flex"), which Keras' own export would let in.
    """
    import tensorflow as tf

    with temporary_folder("gan-denoise-") as temporary:
        write_saved_model(network, temporary)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(temporary))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        path.write_bytes(converter.convert())


def open_onnx(path: Path) -> Run:
    """Return the network of a `model.onnx`."""
    session = load_onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda noisy: session.run(["estimate_mel"], {"noisy_mel": noisy})[0]


def open_litert(path: Path) -> Run:
    """Return the network of a `model.tflite`, on LiteRT's interpreter or TensorFlow's own."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tensorflow.lite.python.interpreter import Interpreter
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
        interpreter = Interpreter(model_path=os.fspath(path))
    runner = interpreter.get_signature_runner("serving_default")  # resizes to what it is given
    return lambda noisy: runner(noisy_mel=noisy)["estimate_mel"]


def open_saved_model(path: Path) -> Run:
    """Return the network of a `saved_model`."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # kept by the function: it owns the variables
    return lambda noisy: np.asarray(
        loaded.signatures["serving_default"](noisy_mel=tf.constant(noisy))["estimate_mel"]
    )


FORMATS = {
    "onnx": Format(
        "ONNX", NETWORK, open_onnx,
        "ONNX Runtime: run(['estimate_mel'], {'noisy_mel': x}); no shape has to be set before",
    ),
    "litert": Format(
        "LiteRT", "model.tflite", open_litert,
        "signature runner 'serving_default': input noisy_mel, output estimate_mel; or resize "
        "input 0 to [batch, frames, n_mels], allocate, set input 0, invoke, read output 0. "
        "Built-in operations only: no flex delegate",
        write_litert,
    ),
    "savedmodel": Format(
        "SavedModel", "saved_model", open_saved_model,
        "signature 'serving_default' (also 'serve'): input noisy_mel, output estimate_mel; in C, "
        "Java and Go take the tensors' names from that signature",
        write_saved_model,
    ),
}


