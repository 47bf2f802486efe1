"""Seeded ResNet50s a hundred times narrower than the real one, for tests of what does not depend on trained weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.backbones.convolution import Convolution
from models.backbones.resnet50.weights import STAGES, Network


def tiny_network(seed: int = 0, *, late_stride: bool = False, width: int = 4) -> Network:
    """The same layers with `width` channels in the middle of the first block; the embedding has 32 × width numbers."""
    rng = np.random.default_rng(seed)

    def layer(outgoing: int, incoming: int, side: int, gain: float = 1.4) -> Convolution:
        spread = gain / np.sqrt(incoming * side * side)
        kernel = rng.normal(0, spread, (outgoing, incoming, side, side))
        return Convolution(kernel.astype(np.float32), rng.normal(0, 0.1, outgoing).astype(np.float32))

    stem = layer(width, 3, 7)
    layers = {"conv1": Convolution((stem.kernel / 64).astype(np.float32), stem.bias)}
    incoming = width
    for stage, blocks in STAGES.items():
        inner = width << (stage - 2)
        for block in blocks:
            name = f"res{stage}{block}_branch"
            if block == "a":
                layers[f"{name}1"] = layer(4 * inner, incoming, 1, 1.0)
            layers[f"{name}2a"] = layer(inner, incoming, 1)
            layers[f"{name}2b"] = layer(inner, inner, 3)
            layers[f"{name}2c"] = layer(4 * inner, inner, 1, 0.5)
            incoming = 4 * inner
    return Network(layers, (123.0, 117.0, 104.0), late_stride, f"seeded:{seed}")


def noise_pictures(count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """uint8 (224, 224, 3): coarse colour noise, different for each."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.kron(rng.integers(0, 256, (14, 14, 3)), np.ones((16, 16, 1), np.int64)).astype(np.uint8)
