"""The network as an ONNX graph: uint8 RGB pixels in, unit vectors out, everything between inside the graph.

Nothing is left to the caller, so every runtime computes the same preprocessing.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from models.backbones.resnet50.weights import STAGES, Network
from models.backbones.writer import (
    GraphWriter,
    centred_pixels,
    convolution,
    normalised,
    pooled_features,
    read_convolutions,
)

VERSION = "graph-2"
SIDE = 224


def build_graph(network: Network, *, half: bool = False) -> onnx.ModelProto:
    """The network in float32, or with float16 convolutions (`half`).

    Input `pixels`: uint8 (batch, 224, 224, 3), RGB. Output `embedding`: float32 (batch, dim), rows of unit length, or
    all zero where the pooled features are. Subtraction of the mean and the norm stay in float32 even with `half`: the
    square of 2048 float16 features can overflow.
    """
    writer = GraphWriter()
    kind = np.float16 if half else np.float32
    value = centred_pixels(writer, network.mean)
    if half:
        value = writer.add("Cast", [value], "half", to=TensorProto.FLOAT16)

    def convolve(name: str, source: str, *, stride: int = 1, relu: bool = True) -> str:
        layer = network.convolutions[name]
        return convolution(writer, name, layer, source, stride=stride, activation="relu" if relu else None, kind=kind)

    value = convolve("conv1", value, stride=2)
    value = writer.add("MaxPool", [value], "pool1", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, blocks in STAGES.items():
        for block in blocks:
            first = 2 if block == "a" and stage > 2 else 1
            early, late = (1, first) if network.late_stride else (first, 1)
            name = f"res{stage}{block}"
            shortcut = convolve(f"{name}_branch1", value, stride=first, relu=False) if block == "a" else value
            branch = convolve(f"{name}_branch2a", value, stride=early)
            branch = convolve(f"{name}_branch2b", branch, stride=late)
            branch = convolve(f"{name}_branch2c", branch, relu=False)
            value = writer.add("Relu", [writer.add("Add", [branch, shortcut], f"{name}_sum")], name)
    normalised(writer, pooled_features(writer, value, half=half))
    return writer.model("resnet50", side=SIDE, dim=network.dim)


def read_network(
    model: onnx.ModelProto, *, mean: tuple[float, float, float], late_stride: bool, source: str
) -> Network:
    """The network back out of a float32 graph of `build_graph`. Raises KeyError where it is another graph."""
    return Network(read_convolutions(model), mean, late_stride, source)
