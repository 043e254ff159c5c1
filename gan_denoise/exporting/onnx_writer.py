"""A generator as an ONNX graph, laid out for ONNX Runtime on a CPU.

A converter that goes through TensorFlow leaves a dilated convolution as space-to-batch, a layer
norm as pooling, and hundreds of shape operators. Written layer by layer the graph has a sixth of
the nodes. Time is the last axis of every tensor, which is what ONNX Runtime's vectorised
convolutions run along: a Keras image `[B, T, F, C]` becomes `[B, C, F, T]`, and a sequence
`[B, T, C]` becomes `[B, C, 1, T]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from gan_denoise.exporting.onnx_graph import ExportError, Graph
from gan_denoise.exporting.onnx_layers import WRITERS
from gan_denoise.exporting.onnx_parts import EVERY_FRAME, Cuts, frames_needed, steps_of, stride_of

if TYPE_CHECKING:
    import keras

OPSET = 17  # the first with LayerNormalization; read by ONNX Runtime from 1.12 on


def write_onnx(generator: keras.Model, path: Path, metadata: Mapping[str, object]) -> None:
    """Write a generator as an ONNX file.

    Of a network that takes any number of frames, the constants `first_frame` and `stop_frame`,
    int64 `[1]`, say which frames come out: all. Made inputs, they let a caller have some frames
    alone; both are multiples of the stride then, or lie behind the end.

    Args:
        generator: Functional Keras model, `[batch, frames, n_mels]` to the same shape.
        path: File to write.
        metadata: Stored with the network, as text.

    Raises:
        ExportError: For a layer that has no writer here.
    """
    graph = Graph()
    bands = generator.input_shape[-1]
    tensors: dict[int, str] = {}  # Keras tensor -> name in the graph
    entry = generator.inputs[0]
    cuts = Cuts(graph, graph.constant) if generator.input_shape[1] is None else None
    steps = steps_of(generator)
    needed = frames_needed(generator, max(steps.values()))
    shape = graph.constant(np.int64([0, bands, 1, -1]))
    tensors[id(entry)] = graph("Reshape", graph("Transpose", "noisy_mel", perm=[0, 2, 1]), shape)
    graph.strides[tensors[id(entry)]] = ()
    for layer in generator.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        node = layer._inbound_nodes[0]
        inputs = [tensors[id(tensor)] for tensor in node.input_tensors]
        if cuts is not None:
            before, spans = inputs, [steps[id(tensor)] for tensor in node.input_tensors]
            inputs = cuts.prepare(before, spans, needed[id(layer)])
            graph.strides |= {cut: graph.strides[whole]
                              for cut, whole in zip(inputs, before, strict=True)}
        if type(layer) not in WRITERS:
            raise ExportError(f"{layer.name}: no ONNX writer for {type(layer).__name__}")
        output = WRITERS[type(layer)](graph, layer, inputs)
        stride = stride_of(layer)
        # What is cropped like another takes its time from the last of its inputs.
        graph.strides[output] = graph.strides[inputs[-1]] + ((stride,) if stride != 1 else ())
        if cuts is not None:
            cuts.follow(output, inputs)
        tensors[id(node.output_tensors[0])] = output
    last = tensors[id(generator.outputs[0])]
    if cuts is not None:
        last = cuts.cut(last, 1, 0)
        graph.weights += [numpy_helper.from_array(value, name)
                          for name, value in EVERY_FRAME.items()]
    flat = graph.constant(np.int64([0, bands, -1]))
    graph("Transpose", graph("Reshape", last, flat), output="estimate_mel", perm=[0, 2, 1])
    shape = ["batch", generator.input_shape[1] or "frames", bands]
    proto = _model(graph, generator.name, shape, metadata)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def _model(
    graph: Graph, name: str, shape: Sequence[int | str], metadata: Mapping[str, object]
) -> onnx.ModelProto:
    """Return a graph as a model whose input and output have one shape."""
    noisy, estimate = (helper.make_tensor_value_info(one, TensorProto.FLOAT, shape)
                       for one in ("noisy_mel", "estimate_mel"))
    proto = helper.make_model(
        helper.make_graph(graph.nodes, name, [noisy], [estimate], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="gan_denoise",
    )
    helper.set_model_props(proto, {key: str(value) for key, value in metadata.items()})
    return proto
