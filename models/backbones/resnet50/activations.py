"""Which of ResNet50's activations int8 rounds and which its convolutions read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from models.backbones import activations
from models.backbones.activations import Activations
from models.backbones.resnet50.graph import build_graph
from models.backbones.resnet50.weights import STAGES, Network


def quantised_tensors() -> Iterator[str]:
    """Every activation that int8 rounds, in the order in which a picture meets them."""
    yield "conv1"
    for stage, blocks in STAGES.items():
        for block in blocks:
            name = f"res{stage}{block}"
            yield from (f"{name}_branch1",) if block == "a" else ()
            yield from (f"{name}_branch2a", f"{name}_branch2b", f"{name}_branch2c", name)


def block_outputs() -> Iterator[str]:
    """The residual sums, behind their ReLU."""
    for stage, blocks in STAGES.items():
        for block in blocks:
            yield f"res{stage}{block}"


def record(network: Network, pixels: npt.NDArray[np.uint8]) -> Activations:
    """Measures `network` on uint8 (n, 224, 224, 3) pictures."""
    quantised = list(quantised_tensors())
    read = [*block_outputs(), *(name for name in quantised if name.endswith(("2a", "2b"))), "conv1", "pool1"]
    return activations.record(build_graph(network), pixels, network=network.digest(), quantised=quantised, read=read)
