"""A generator as an ONNX graph, laid out for ONNX Runtime on a CPU.

A converter that goes through TensorFlow leaves a dilated convolution as space-to-batch, a layer
norm as pooling, and hundreds of shape operators. Written layer by layer the graph has a sixth of
the nodes. Time is the last axis of every tensor, which is what ONNX Runtime's vectorised
convolutions run along: a Keras image `[B, T, F, C]` becomes `[B, C, F, T]`, and a sequence
`[B, T, C]` becomes `[B, C, 1, T]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.exporting.onnx_parts import EVERY_FRAME, Cuts, frames_needed, steps_of
from gan_denoise.models.layers import CropLike, DirectHead, GainHead, RelativeLevel

if TYPE_CHECKING:
    import keras

OPSET = 17  # the first with LayerNormalization; read by ONNX Runtime from 1.12 on


class ExportError(GanDenoiseError):
    """A network holds something that has no place in the exported graph."""


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
    graph = _Graph()
    bands = generator.input_shape[-1]
    tensors: dict[int, str] = {}  # Keras tensor -> name in the graph
    lengths: dict[str, tuple[int, ...]] = {}  # name -> strides over time that led to it
    entry = generator.inputs[0]
    cuts = Cuts(graph, graph.constant) if generator.input_shape[1] is None else None
    steps = steps_of(generator)
    needed = frames_needed(generator, max(steps.values()))
    shape = graph.constant(np.int64([0, bands, 1, -1]))
    tensors[id(entry)] = graph("Reshape", graph("Transpose", "noisy_mel", perm=[0, 2, 1]), shape)
    lengths[tensors[id(entry)]] = ()
    for layer in generator.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        node = layer._inbound_nodes[0]
        inputs = [tensors[id(tensor)] for tensor in node.input_tensors]
        if cuts is not None:
            before, strides = inputs, [steps[id(tensor)] for tensor in node.input_tensors]
            inputs = cuts.prepare(before, strides, needed[id(layer)])
            lengths |= {cut: lengths[whole] for cut, whole in zip(inputs, before, strict=True)}
        writer = next((write for kind, write in WRITERS.items() if type(layer) is kind), None)
        if writer is None:
            raise ExportError(f"{layer.name}: no ONNX writer for {type(layer).__name__}")
        if isinstance(layer, CropLike):
            output = _crop(graph, layer, inputs, lengths)
        else:
            output = writer(graph, layer, inputs)
            lengths[output] = lengths[inputs[0]] + _time_change(layer)
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
    graph: _Graph, name: str, shape: Sequence[int | str], metadata: Mapping[str, object]
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


class _Graph:
    """Nodes and weights so far; a call adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def __call__(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: np.ndarray) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.float32(value).reshape(()))

    def activate(self, name: str, layer: layers.Layer) -> str:
        function = getattr(layer.activation, "__name__", "linear")
        if function == "linear":
            return name
        kinds = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
        if function not in kinds:
            raise ExportError(f"{layer.name}: no ONNX writer for the activation {function}")
        return self(kinds[function], name)


# ---- Layers: (graph, layer, inputs) -> output --------------------------------------------------
def _conv2d(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    kernel, bias = _kernel_and_bias(layer, channels_axis=3)
    kernel = kernel.transpose(3, 2, 1, 0)  # [out, in, F, T]
    out = graph("Conv", inputs[0], graph.constant(kernel), graph.constant(bias),
                kernel_shape=kernel.shape[2:], strides=layer.strides[::-1], auto_pad="SAME_UPPER")
    return graph.activate(out, layer)


def _conv2d_transpose(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    """A kernel and a stride that fit: every output is a sum over few neighbours, a convolution
    to stride x stride channels whose pixels are then spread out. ConvTranspose is far slower."""
    kernel, bias = _kernel_and_bias(layer, channels_axis=2)
    kernel = kernel.transpose(3, 2, 1, 0)  # [in, out, F, T]
    strides = layer.strides[::-1]
    reach = [_neighbours(size, stride) for size, stride in
             zip(kernel.shape[2:], strides, strict=True)]
    (f_taps, f_before, f_after), (t_taps, t_before, t_after) = reach
    count_in, count_out = kernel.shape[:2]
    spread = np.zeros((count_out, *strides, count_in, len(f_taps[0]), len(t_taps[0])), np.float32)
    for f, f_row in enumerate(f_taps):
        for t, t_row in enumerate(t_taps):
            for i, f_tap in enumerate(f_row):
                for j, t_tap in enumerate(t_row):
                    if f_tap is not None and t_tap is not None:
                        spread[:, f, t, :, i, j] = kernel[:, :, f_tap, t_tap].T
    out = graph(
        "Conv", inputs[0], graph.constant(spread.reshape(-1, *spread.shape[3:])),
        graph.constant(np.repeat(bias, math.prod(strides))), kernel_shape=spread.shape[4:],
        pads=[f_before, t_before, f_after, t_after],
    )
    out = graph.activate(out, layer)
    height, (f_stride, t_stride) = layer.input.shape[2], strides
    if t_stride > 1:  # [B, C * sF, sT, F, T] -> [B, C * sF, F, T, sT]
        shape = graph.constant(np.int64([0, count_out * f_stride, t_stride, height, -1]))
        out = graph("Transpose", graph("Reshape", out, shape), perm=[0, 1, 3, 4, 2])
    # [B, C, sF, F, T] -> [B, C, F, sF, T]
    shape = graph.constant(np.int64([0, count_out, f_stride, height, -1]))
    out = graph("Transpose", graph("Reshape", out, shape), perm=[0, 1, 3, 2, 4])
    shape = graph.constant(np.int64([0, count_out, height * f_stride, -1]))
    return graph("Reshape", out, shape)


def _neighbours(size: int, stride: int) -> tuple[list[list[int | None]], int, int]:
    """Return, for each phase of the output, the kernel's tap on each input around; and the reach.

    out[stride * i + phase] = sum over j of in[j] * kernel[stride * (i - j) + phase + cut], where
    'same' cuts (size - stride) // 2 off the front.
    """
    cut = (size - stride) // 2
    before = (size - 1 - cut) // stride
    after = -((-cut) // stride) if cut > 0 else 0
    taps = []
    for phase in range(stride):
        row = [stride * -offset + phase + cut for offset in range(-before, after + 1)]
        taps.append([tap if 0 <= tap < size else None for tap in row])
    return taps, before, after


def _depthwise(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    kernel = np.asarray(layer.kernel)  # [time, channels, 1]
    kernel = kernel.transpose(1, 2, 0)[:, :, None]  # [channels, 1, 1, time]
    dilation = layer.dilation_rate[0]
    total = dilation * (kernel.shape[-1] - 1)
    out = graph(
        "Conv", inputs[0], graph.constant(kernel), graph.constant(np.asarray(layer.bias)),
        kernel_shape=kernel.shape[2:], group=len(kernel), dilations=[1, dilation],
        pads=[0, total // 2, 0, total - total // 2],
    )
    return graph.activate(out, layer)


def _dense(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    kernel = np.asarray(layer.kernel).T[:, :, None, None]  # [out, in, 1, 1]
    out = graph("Conv", inputs[0], graph.constant(kernel), graph.constant(np.asarray(layer.bias)),
                kernel_shape=[1, 1])
    return graph.activate(out, layer)


def _layer_norm(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    mean = graph("ReduceMean", inputs[0], axes=[1])
    centred = graph("Sub", inputs[0], mean)
    variance = graph("ReduceMean", graph("Mul", centred, centred), axes=[1])
    deviation = graph("Sqrt", graph("Add", variance, graph.number(layer.epsilon)))
    scaled = graph("Mul", centred, graph("Reciprocal", deviation))
    column = (1, -1, 1, 1)
    scaled = graph("Mul", scaled, graph.constant(np.asarray(layer.gamma).reshape(column)))
    return graph("Add", scaled, graph.constant(np.asarray(layer.beta).reshape(column)))


def _kernel_and_bias(layer: layers.Layer, channels_axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of a convolution, with a batch norm behind it folded in."""
    kernel = np.asarray(layer.kernel)
    shape = [1] * kernel.ndim
    shape[channels_axis] = -1
    bias = np.asarray(layer.bias) if layer.use_bias else np.zeros(layer.filters, np.float32)
    norm = _norm_behind(layer)
    if norm is None:
        return kernel, bias
    scale = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    bias = (bias - np.asarray(norm.moving_mean)) * scale + np.asarray(norm.beta)
    return kernel * scale.reshape(shape), bias


def _norm_behind(layer: layers.Layer) -> layers.BatchNormalization | None:
    """Return the batch norm that alone takes a convolution's linear output, else None."""
    convolutions = (layers.Conv2D, layers.Conv2DTranspose)
    followers = [node.operation for node in layer._outbound_nodes]
    linear = getattr(getattr(layer, "activation", None), "__name__", "") == "linear"
    if isinstance(layer, convolutions) and linear and len(followers) == 1 and isinstance(
        followers[0], layers.BatchNormalization
    ):
        return followers[0]
    return None


def _batch_norm(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    before = layer._inbound_nodes[0].input_tensors[0]._keras_history.operation
    if _norm_behind(before) is layer:
        return inputs[0]  # folded
    names = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    weights = [graph.constant(np.asarray(value)) for value in names]
    return graph("BatchNormalization", inputs[0], *weights, epsilon=layer.epsilon)


def _reshape(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    """[B, T, F * C] <-> [B, T, F, C] <-> [B, 1, T * F * C], in Keras' order of T, F and C."""
    before, after = layer.input.shape[1:], layer.output.shape[1:]
    if len(before) == 3 and after[0] == 1 and before[0] not in (None, 1):
        vector = graph.constant(np.int64([0, math.prod(before), 1, 1]))
        return graph("Reshape", graph("Transpose", inputs[0], perm=[0, 3, 2, 1]), vector)
    if len(after) == 3 and before[0] == 1 and after[0] not in (None, 1):
        image = graph.constant(np.int64([0, *after]))
        return graph("Transpose", graph("Reshape", inputs[0], image), perm=[0, 3, 2, 1])
    before, after = before[1:], after[1:]
    height, channels = after if len(after) == 2 else before
    if len(after) == 2:
        shape = graph.constant(np.int64([0, height, channels, -1]))
        return graph("Transpose", graph("Reshape", inputs[0], shape), perm=[0, 2, 1, 3])
    shape = graph.constant(np.int64([0, height * channels, 1, -1]))
    return graph("Reshape", graph("Transpose", inputs[0], perm=[0, 2, 1, 3]), shape)


def _rescaling(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    return graph("Add", graph("Mul", inputs[0], graph.number(layer.scale)),
                 graph.number(layer.offset))


def _upsampling(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    scales = graph.constant(np.float32([1, 1, *layer.size[::-1]]))
    return graph("Resize", inputs[0], "", scales, mode="nearest", nearest_mode="floor",
                 coordinate_transformation_mode="asymmetric")


def _max_pooling(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    return graph("MaxPool", inputs[0], kernel_shape=layer.pool_size[::-1],
                 strides=layer.strides[::-1], auto_pad="SAME_UPPER")


def _relative_level(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    to_log = layer.range_db * math.log(10) / 20
    linear = graph("Exp", graph("Mul", inputs[0], graph.number(to_log)))
    mean = graph("ReduceMean", linear, axes=[1])  # [B, 1, 1, T]
    left = (layer.frames - 1) // 2
    mean = graph("AveragePool", mean, kernel_shape=[1, layer.frames],
                 pads=[0, left, 0, layer.frames - 1 - left], count_include_pad=0)
    level = graph("Mul", graph("Log", mean), graph.number(1 / to_log))
    return graph("Add", graph("Sub", inputs[0], level), graph.number(layer.CENTRE))


def _gain_head(graph: _Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    floor = 10 ** (-layer.floor_db / 20)
    gain = graph("Mul", graph("Sigmoid", inputs[1]), graph.number(1 - floor))
    gain = graph("Log", graph("Add", gain, graph.number(floor)))
    to_mel01 = graph.number(20 / math.log(10) / layer.range_db)
    raised = graph("Add", inputs[0], graph("Mul", gain, to_mel01))
    return graph("Max", raised, graph.number(0.0))


def _crop(
    graph: _Graph, layer: layers.Layer, inputs: Sequence[str], lengths: dict[str, tuple]
) -> str:
    x, like = inputs
    wanted, height = layer.input[1].shape[2], layer.input[0].shape[2]
    if wanted != height:
        ends = graph.constant(np.int64([wanted]))
        cut = graph("Slice", x, graph.constant(np.int64([0])), ends, graph.constant(np.int64([2])))
    else:
        cut = x
    if lengths[x] != lengths[like]:  # a length that is no multiple of the stride
        end = graph("Shape", like, start=3, end=4)
        cut = graph("Slice", cut, graph.constant(np.int64([0])), end,
                    graph.constant(np.int64([3])))
    lengths[cut] = lengths[like]
    return cut


def _simple(kind: str) -> Callable[[_Graph, layers.Layer, Sequence[str]], str]:
    return lambda graph, layer, inputs: graph(kind, *inputs)


def _time_change(layer: layers.Layer) -> tuple[int, ...]:
    """Return the stride over time of a layer, negative where it goes up; () for none."""
    if isinstance(layer, layers.UpSampling2D):
        return (-layer.size[0],)
    if isinstance(layer, (layers.Conv2D, layers.MaxPooling2D)) and layer.strides[0] > 1:
        return (layer.strides[0],)
    if isinstance(layer, layers.Conv2DTranspose) and layer.strides[0] > 1:
        return (-layer.strides[0],)
    return ()


WRITERS: dict[type, Callable[..., str]] = {
    layers.Conv2D: _conv2d,
    layers.Conv2DTranspose: _conv2d_transpose,
    layers.DepthwiseConv1D: _depthwise,
    layers.Dense: _dense,
    layers.LayerNormalization: _layer_norm,
    layers.BatchNormalization: _batch_norm,
    layers.Reshape: _reshape,
    layers.Rescaling: _rescaling,
    layers.UpSampling2D: _upsampling,
    layers.MaxPooling2D: _max_pooling,
    layers.Add: _simple("Add"),
    layers.Concatenate: lambda graph, layer, inputs: graph("Concat", *inputs, axis=1),
    layers.ReLU: _simple("Relu"),
    layers.Dropout: lambda graph, layer, inputs: inputs[0],
    layers.Activation: lambda graph, layer, inputs: graph.activate(inputs[0], layer),
    RelativeLevel: _relative_level,
    GainHead: _gain_head,
    DirectHead: _simple("Sigmoid"),
    CropLike: _crop,
}
