"""EfficientNet-Lite2 in integers, and which of its activations that rounds.

Its pixels are centred at 127, which is a byte, so the picture needs no border of its own. No activation is a node:
what is behind a ReLU6 has a range from 0 to at most 6, and rounding into it clips.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx

from models.backbones import activations
from models.backbones.activations import Activations
from models.backbones.efficientnet_lite.graph import NAME, SIDE, build_graph, same_pads
from models.backbones.efficientnet_lite.weights import BLOCKS, MEAN, Network
from models.backbones.integer import IntegerWriter
from models.backbones.writer import POOLED, normalised
from models.embedder import INPUT

RECIPE = "int8-1"


def build_int8(network: Network, table: Activations) -> onnx.ModelProto:
    """Input and output as of `build_graph`; `table` must have been recorded on this network."""
    writer = IntegerWriter(network.convolutions, table.ranges, table.means)
    planes = writer.graph.add("Transpose", [INPUT], "planes", perm=[0, 3, 1, 2])
    value = writer.convolve("stem", writer.pixels(planes, zero=round(MEAN)), stride=2, pads=same_pads(SIDE, 3, 2))
    size = -(-SIDE // 2)
    for block in BLOCKS:
        branch = value if block.expansion == 1 else writer.convolve(f"{block.name}_expand", value)
        pads = same_pads(size, block.side, block.stride)
        branch = writer.convolve(f"{block.name}_depthwise", branch, stride=block.stride, pads=pads)
        size = -(-size // block.stride)
        branch = writer.convolve(f"{block.name}_project", branch)
        value = writer.add(block.name, branch, value) if block.is_residual else branch
    value = writer.convolve("head", value)
    normalised(writer.graph, writer.graph.add("GlobalAveragePool", [value.source], POOLED))
    return writer.graph.model(NAME, side=SIDE, dim=network.dim)


def quantised_tensors() -> Iterator[str]:
    """Every activation that int8 rounds, in the order in which a picture meets them."""
    yield "stem"
    for block in BLOCKS:
        yield from (f"{block.name}_expand",) if block.expansion != 1 else ()
        yield from (f"{block.name}_depthwise", f"{block.name}_project")
        yield from (block.name,) if block.is_residual else ()
    yield "head"


def record(network: Network, pixels: npt.NDArray[np.uint8]) -> Activations:
    """Measures `network` on uint8 (n, 260, 260, 3) pictures."""
    names = list(quantised_tensors())
    return activations.record(build_graph(network), pixels, network=network.digest(), quantised=names, read=names)
