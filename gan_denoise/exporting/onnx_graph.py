"""An ONNX graph that is built node by node."""

from __future__ import annotations

import numpy as np
import onnx
from keras import layers
from onnx import helper, numpy_helper

from gan_denoise.core.errors import GanDenoiseError


class ExportError(GanDenoiseError):
    """A network holds something that has no place in the exported graph."""


class Graph:
    """Nodes and weights so far; a call adds a node and returns the name of its output.

    Attributes:
        nodes: In the order in which they were added.
        weights: Constants of the nodes.
        strides: The strides over time that led to each output of a layer, by its name; negative
            where they go up. Tensors of the same strides have the same number of frames.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.strides: dict[str, tuple[int, ...]] = {}

    def __call__(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: np.ndarray) -> str:
        """Add a constant and return its name."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def number(self, value: float) -> str:
        """Add a float32 number and return its name."""
        return self.constant(np.float32(value).reshape(()))

    def activate(self, name: str, layer: layers.Layer) -> str:
        """Add a layer's activation behind a tensor and return its output.

        Raises:
            ExportError: For an activation that has no place here.
        """
        function = getattr(layer.activation, "__name__", "linear")
        if function == "linear":
            return name
        kinds = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
        if function not in kinds:
            raise ExportError(f"{layer.name}: no ONNX writer for the activation {function}")
        return self(kinds[function], name)
