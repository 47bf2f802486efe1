"""The builder of ResNet50: what `models.build` asks of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from models.backbones.resnet50.activations import record
from models.backbones.resnet50.graph import VERSION, build_graph, read_network
from models.backbones.resnet50.quantize import RECIPE, build_int8
from models.backbones.resnet50.weights import Network, read_tfjs, read_torch

__all__ = ["GOLDEN", "RECIPE", "TABLE", "VERSION", "build_graph", "build_int8", "read", "record", "recover"]

GOLDEN = Path(__file__).with_name("golden.json")
TABLE = Path(__file__).with_name("activations.json")


def read(path: Path, source: str) -> Network:
    """From the npm package's tarball, or from a torchvision state dict (`.pth`, `.pt`)."""
    return read_torch(path, source) if path.suffix in (".pth", ".pt") else read_tfjs(path, source)


def recover(model: onnx.ModelProto, details: Mapping[str, Any], source: str) -> Network:
    """The network back out of its fp32 graph."""
    red, green, blue = (float(each) for each in details["mean"])
    return read_network(model, mean=(red, green, blue), late_stride=bool(details["late_stride"]), source=source)
