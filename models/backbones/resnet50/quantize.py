"""ResNet50 in integers, from recorded activations."""

from __future__ import annotations

import numpy as np
import onnx

from models.backbones.activations import Activations
from models.backbones.integer import IntegerWriter, Quantised
from models.backbones.resnet50.graph import SIDE
from models.backbones.resnet50.weights import STAGES, Network
from models.backbones.writer import POOLED, normalised
from models.embedder import INPUT

RECIPE = "int8-1"

# The uint8 value that means zero in the picture; the distance to each channel's mean is in the bias.
_PIXEL_ZERO = 114


def build_int8(network: Network, activations: Activations) -> onnx.ModelProto:
    """Input and output as of `build_graph`; `activations` must have been recorded on this network."""
    writer = IntegerWriter(network.convolutions, activations.ranges, activations.means)
    value = _stem(writer, network)
    for stage, blocks in STAGES.items():
        for block in blocks:
            first = 2 if block == "a" and stage > 2 else 1
            early, late = (1, first) if network.late_stride else (first, 1)
            name = f"res{stage}{block}"
            shortcut = writer.convolve(f"{name}_branch1", value, stride=first) if block == "a" else value
            branch = writer.convolve(f"{name}_branch2a", value, stride=early, relu=True)
            branch = writer.convolve(f"{name}_branch2b", branch, stride=late, relu=True)
            branch = writer.convolve(f"{name}_branch2c", branch)
            value = writer.add(name, branch, shortcut, relu=True)
    graph = writer.graph
    normalised(graph, graph.add("GlobalAveragePool", [value.source], POOLED))
    return graph.model("resnet50", side=SIDE, dim=network.dim)


def _stem(writer: IntegerWriter, network: Network) -> Quantised:
    """Pads the bytes with each channel's mean (what zero padding is after subtraction), convolves, pools."""
    graph, mean = writer.graph, np.array(network.mean)
    channels = ["red", "green", "blue"]
    graph.split(INPUT, channels, axis=3)
    pads = graph.constant("border", np.array([0, 3, 3, 0, 0, 3, 3, 0], np.int64))
    padded = [
        graph.add(
            "Pad", [channel, pads, graph.constant(f"{channel}_mean", np.uint8(round(value)))], f"{channel}_padded"
        )
        for channel, value in zip(channels, mean, strict=True)
    ]
    planes = graph.add("Transpose", [graph.add("Concat", padded, "padded", axis=3)], "planes", perm=[0, 3, 1, 2])
    # The convolution sees p − 114 and should see p − mean: the rest goes through the rounded weights into the bias.
    pixel = writer.pixels(planes, zero=_PIXEL_ZERO)
    stem = writer.convolve("conv1", pixel, stride=2, relu=True, pads=[0, 0, 0, 0], offset=_PIXEL_ZERO - mean)
    value = graph.add("MaxPool", [stem.source], "pool1", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    return writer.requantised("pool1", value, like="conv1", scale=stem.scale)
