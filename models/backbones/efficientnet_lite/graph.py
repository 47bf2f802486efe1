"""EfficientNet-Lite2 as an ONNX graph: uint8 RGB pixels in, unit vectors out, everything between inside the graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from models.backbones.efficientnet_lite.weights import BLOCKS, MEAN, Network
from models.backbones.writer import (
    Activation,
    GraphWriter,
    centred_pixels,
    convolution,
    normalised,
    pooled_features,
)

NAME = "efficientnet-lite2"
VERSION = "lite-1"
SIDE = 260


def build_graph(network: Network, *, half: bool = False) -> onnx.ModelProto:
    """The network in float32, or with float16 convolutions (`half`).

    Input `pixels`: uint8 (batch, 260, 260, 3), RGB. Output `embedding`: float32 (batch, 1280), rows of unit length.
    """
    writer = GraphWriter()
    kind = np.float16 if half else np.float32
    value = centred_pixels(writer, [MEAN] * 3)
    if half:
        value = writer.add("Cast", [value], "half", to=TensorProto.FLOAT16)
    size = SIDE

    def convolve(name: str, source: str, *, side: int = 1, stride: int = 1, linear: bool = False) -> str:
        activation: Activation | None = None if linear else "relu6"
        pads = same_pads(size, side, stride)
        return convolution(
            writer, name, network.convolutions[name], source,
            stride=stride, pads=pads, activation=activation, kind=kind,
        )  # fmt: skip

    value = convolve("stem", value, side=3, stride=2)
    size = -(-size // 2)
    for block in BLOCKS:
        branch = value if block.expansion == 1 else convolve(f"{block.name}_expand", value)
        branch = convolve(f"{block.name}_depthwise", branch, side=block.side, stride=block.stride)
        size = -(-size // block.stride)
        branch = convolve(f"{block.name}_project", branch, linear=True)
        value = writer.add("Add", [branch, value], block.name) if block.is_residual else branch
    value = convolve("head", value)
    normalised(writer, pooled_features(writer, value, half=half))
    return writer.model(NAME, side=SIDE, dim=network.dim)


def same_pads(size: int, side: int, stride: int) -> list[int]:
    """SAME_UPPER in numbers: what gives ⌈size ⁄ stride⌉ positions, the odd one after; top, left, bottom, right."""
    total = max(0, (-(-size // stride) - 1) * stride + side - size)
    before, after = total // 2, total - total // 2
    return [before, before, after, after]
