"""How each layer of a generator is written in ONNX: functions `(graph, layer, inputs) -> output`.

Tensors are laid out as in `onnx_writer`: a Keras image `[B, T, F, C]` is `[B, C, F, T]`, and a
sequence `[B, T, C]` is `[B, C, 1, T]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from keras import layers

from gan_denoise.exporting.onnx_graph import Graph
from gan_denoise.models.layers import CropLike, DirectHead, GainHead, RelativeLevel

Writer = Callable[[Graph, layers.Layer, Sequence[str]], str]


def _conv2d(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    kernel, bias = _kernel_and_bias(layer, channels_axis=3)
    kernel = kernel.transpose(3, 2, 1, 0)  # [out, in, F, T]
    out = graph("Conv", inputs[0], graph.constant(kernel), graph.constant(bias),
                kernel_shape=kernel.shape[2:], strides=layer.strides[::-1], auto_pad="SAME_UPPER")
    return graph.activate(out, layer)


def _conv2d_transpose(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
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


def _depthwise(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
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


def _dense(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    kernel = np.asarray(layer.kernel).T[:, :, None, None]  # [out, in, 1, 1]
    out = graph("Conv", inputs[0], graph.constant(kernel), graph.constant(np.asarray(layer.bias)),
                kernel_shape=[1, 1])
    return graph.activate(out, layer)


def _layer_norm(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
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


def _batch_norm(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    before = layer._inbound_nodes[0].input_tensors[0]._keras_history.operation
    if _norm_behind(before) is layer:
        return inputs[0]  # folded
    names = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    weights = [graph.constant(np.asarray(value)) for value in names]
    return graph("BatchNormalization", inputs[0], *weights, epsilon=layer.epsilon)


def _reshape(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
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


def _rescaling(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    return graph("Add", graph("Mul", inputs[0], graph.number(layer.scale)),
                 graph.number(layer.offset))


def _upsampling(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    scales = graph.constant(np.float32([1, 1, *layer.size[::-1]]))
    return graph("Resize", inputs[0], "", scales, mode="nearest", nearest_mode="floor",
                 coordinate_transformation_mode="asymmetric")


def _max_pooling(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    return graph("MaxPool", inputs[0], kernel_shape=layer.pool_size[::-1],
                 strides=layer.strides[::-1], auto_pad="SAME_UPPER")


def _relative_level(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    to_log = layer.range_db * math.log(10) / 20
    linear = graph("Exp", graph("Mul", inputs[0], graph.number(to_log)))
    mean = graph("ReduceMean", linear, axes=[1])  # [B, 1, 1, T]
    left = (layer.frames - 1) // 2
    mean = graph("AveragePool", mean, kernel_shape=[1, layer.frames],
                 pads=[0, left, 0, layer.frames - 1 - left], count_include_pad=0)
    level = graph("Mul", graph("Log", mean), graph.number(1 / to_log))
    return graph("Add", graph("Sub", inputs[0], level), graph.number(layer.CENTRE))


def _gain_head(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    floor = 10 ** (-layer.floor_db / 20)
    gain = graph("Mul", graph("Sigmoid", inputs[1]), graph.number(1 - floor))
    gain = graph("Log", graph("Add", gain, graph.number(floor)))
    to_mel01 = graph.number(20 / math.log(10) / layer.range_db)
    raised = graph("Add", inputs[0], graph("Mul", gain, to_mel01))
    return graph("Max", raised, graph.number(0.0))


def _crop(graph: Graph, layer: layers.Layer, inputs: Sequence[str]) -> str:
    x, like = inputs
    wanted, height = layer.input[1].shape[2], layer.input[0].shape[2]
    if wanted != height:
        ends = graph.constant(np.int64([wanted]))
        cut = graph("Slice", x, graph.constant(np.int64([0])), ends, graph.constant(np.int64([2])))
    else:
        cut = x
    if graph.strides[x] != graph.strides[like]:  # a length that is no multiple of the stride
        end = graph("Shape", like, start=3, end=4)
        cut = graph("Slice", cut, graph.constant(np.int64([0])), end,
                    graph.constant(np.int64([3])))
    return cut


def _simple(kind: str) -> Writer:
    return lambda graph, layer, inputs: graph(kind, *inputs)


WRITERS: dict[type, Writer] = {
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
