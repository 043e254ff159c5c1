"""What of a network must be computed for some frames alone: cuts that an exported graph makes.

A part of a long recording is estimated with a receptive field of frames on both sides, which are
thrown away. The first layers need all of them, the last ones few. A graph has two numbers beside
the mel, the first frame to keep and the one behind the last, and each layer leaves out frames that
no later layer needs: of a network whose wide view is in its middle, what comes behind it is
computed for the part alone. What is kept has the same bits as the same frames of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from keras import Model, layers

from gan_denoise.config.artifacts import FIRST_FRAME, STOP_FRAME
from gan_denoise.models.layers import RelativeLevel

EVERYTHING = 2**40  # as the frame behind the last, and as the reach of what is not cut
# The numbers with which every frame is kept.
EVERY_FRAME = {FIRST_FRAME: np.int64([0]), STOP_FRAME: np.int64([EVERYTHING])}
LEAST_CUT = 64  # frames on a side: a cut is a copy, which fewer do not pay for


def frames_needed(generator: Model, stride: int) -> dict[int, int]:
    """Return how many frames on each side of a part the input of each layer must have.

    Args:
        generator: Functional Keras model, `[batch, frames, bands]` to the same shape.
        stride: Product of its strides over time; the numbers are multiples of it.

    Returns:
        Frames of the mel, by `id` of the layer.
    """
    steps = steps_of(generator)
    needed: dict[int, int] = {}
    for layer in reversed(generator.layers):
        if isinstance(layer, layers.InputLayer):
            continue
        after = max((needed[id(node.operation)] for node in layer._outbound_nodes
                     if id(node.operation) in needed), default=0)
        tensor = layer._inbound_nodes[0].input_tensors[0]
        frames = after + _view(layer) * steps[id(tensor)]
        needed[id(layer)] = frames + -frames % stride
    return needed


def steps_of(generator: Model) -> dict[int, int]:
    """Return how many frames of the mel a step over time of each Keras tensor is, by its `id`."""
    steps = {id(generator.inputs[0]): 1}
    for layer in generator.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        node = layer._inbound_nodes[0]
        # What is cropped like another takes its time from the last of its inputs.
        step = steps[id(node.input_tensors[-1])]
        stride = stride_of(layer)
        step = step * stride if stride > 0 else step // -stride
        steps[id(node.output_tensors[0])] = step
    return steps


def stride_of(layer: layers.Layer) -> int:
    """Return the stride over time of a layer, negative where it goes up; 1 for none."""
    if isinstance(layer, layers.UpSampling2D):
        return -layer.size[0]
    if isinstance(layer, layers.Conv2DTranspose) and layer.strides[0] > 1:
        return -layer.strides[0]
    if isinstance(layer, (layers.Conv2D, layers.MaxPooling2D)):
        return layer.strides[0]
    return 1


def _view(layer: layers.Layer) -> int:
    """Return how many steps of its input on each side a layer looks at, or more."""
    if isinstance(layer, layers.Conv2DTranspose):
        return -(-layer.kernel_size[0] // layer.strides[0])
    if isinstance(layer, layers.Conv2D):
        return -(-layer.dilation_rate[0] * (layer.kernel_size[0] - 1) // 2) + layer.strides[0] - 1
    if isinstance(layer, layers.DepthwiseConv1D):
        return -(-layer.dilation_rate[0] * (layer.kernel_size[0] - 1) // 2)
    if isinstance(layer, layers.MaxPooling2D):
        return layer.pool_size[0]
    if isinstance(layer, layers.UpSampling2D):
        return 1
    return layer.frames // 2 if isinstance(layer, RelativeLevel) else 0


class Cuts:
    """Cuts tensors of a graph to a part and some frames on both sides.

    Args:
        graph: Adds a node and returns the name of its output.
        constant: Adds a constant and returns its name.
    """

    def __init__(self, graph: Callable[..., str], constant: Callable[[np.ndarray], str]):
        self._graph, self._constant = graph, constant
        self._reach: dict[str, int] = {}  # of the tensors that have been cut, and what follows them
        self._begins: dict[int, str] = {}  # reach -> the frame that a cut begins with
        self._done: dict[tuple[str, int], str] = {}

    def reach(self, tensor: str) -> int:
        """Return how many frames on each side of the part a tensor has."""
        return self._reach.get(tensor, EVERYTHING)

    def follow(self, output: str, inputs: Sequence[str]) -> None:
        """Note that a layer's output has as many frames as its inputs."""
        self._reach[output] = self.reach(inputs[0])

    def prepare(self, inputs: Sequence[str], steps: Sequence[int], frames: int) -> list[str]:
        """Return a layer's inputs, cut where that pays, and all to the same frames.

        Args:
            inputs: Tensors, time last.
            steps: How many frames of the mel a step of each is.
            frames: That the layer needs on each side.
        """
        reaches = [self.reach(tensor) for tensor in inputs]
        if len(set(reaches)) == 1 and reaches[0] < frames + LEAST_CUT:
            return list(inputs)
        return [self.cut(*each, frames) for each in zip(inputs, steps, strict=True)]

    def cut(self, tensor: str, step: int, frames: int) -> str:
        """Return a tensor with no more than `frames` on each side of the part."""
        if self.reach(tensor) == frames:
            return tensor
        key = (tensor, frames)
        if key not in self._done:
            origin = self._begin(self.reach(tensor))
            start = self._graph("Sub", self._begin(frames), origin)
            stop = self._graph("Sub", self._graph("Add", STOP_FRAME, self._number(frames)), origin)
            if step > 1:
                start, stop = (self._graph("Div", place, self._number(step))
                               for place in (start, stop))
            self._done[key] = self._graph("Slice", tensor, start, stop, self._number(-1))
            self._reach[self._done[key]] = frames
        return self._done[key]

    def _begin(self, reach: int) -> str:
        """Return the frame that a tensor of some reach begins with: not before the first."""
        if reach not in self._begins:
            zero = self._number(0)
            self._begins[reach] = zero if reach == EVERYTHING else self._graph(
                "Max", self._graph("Sub", FIRST_FRAME, self._number(reach)), zero)
        return self._begins[reach]

    def _number(self, value: int) -> str:
        return self._constant(np.int64([value]))
