"""The network as an ONNX graph: uint8 RGB pixels in, unit vectors out, everything between inside the graph.

Nothing is left to the caller, so every runtime computes the same preprocessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.backbones.resnet50.weights import STAGES, Convolution, Network
from models.embedder import INPUT, OUTPUT

VERSION = "graph-2"
SIDE = 224
POOLED = "pooled"
# A zero embedding stays zero instead of turning into NaN, so that the embedder can tell it.
SMALLEST_NORM = 1e-12
_OPSET = 17
_IR = 8


@dataclass(slots=True)
class GraphWriter:
    """Collects nodes and constants; `add` returns the name of the node's single output."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def split(self, source: str, outputs: Sequence[str], axis: int) -> None:
        self.nodes.append(helper.make_node("Split", [source], list(outputs), name=f"{source}_split", axis=axis))

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def model(self, dim: int, producer: str = "lookalike") -> onnx.ModelProto:
        """Checks and wraps what was collected. The batch size is dynamic."""
        pixels = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
        embedding = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", dim])
        graph = helper.make_graph(self.nodes, "resnet50", [pixels], [embedding], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name=producer)
        model.ir_version = _IR
        onnx.checker.check_model(model)
        return model


def build_graph(network: Network, *, half: bool = False) -> onnx.ModelProto:
    """The network in float32, or with float16 convolutions (`half`).

    Input `pixels`: uint8 (batch, 224, 224, 3), RGB. Output `embedding`: float32 (batch, dim), rows of unit length, or
    all zero where the pooled features are. Subtraction of the mean and the norm stay in float32 even with `half`: the
    square of 2048 float16 features can overflow.
    """
    writer = GraphWriter()
    kind = np.float16 if half else np.float32
    value = centred_pixels(writer, network)
    if half:
        value = writer.add("Cast", [value], "half", to=TensorProto.FLOAT16)

    def convolve(name: str, source: str, *, stride: int = 1, relu: bool = True) -> str:
        return convolution(writer, name, network.convolutions[name], source, stride=stride, relu=relu, kind=kind)

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
    pooled = writer.add("GlobalAveragePool", [value], f"{POOLED}_half" if half else POOLED)
    if half:
        pooled = writer.add("Cast", [pooled], POOLED, to=TensorProto.FLOAT)
    normalised(writer, pooled)
    return writer.model(network.dim)


def centred_pixels(writer: GraphWriter, network: Network) -> str:
    """uint8 NHWC → float32 NCHW with the mean subtracted."""
    value = writer.add("Cast", [INPUT], "float_pixels", to=TensorProto.FLOAT)
    value = writer.add("Sub", [value, writer.constant("mean", np.array(network.mean, np.float32))], "centred")
    return writer.add("Transpose", [value], "channels_first", perm=[0, 3, 1, 2])


def convolution(
    writer: GraphWriter,
    name: str,
    layer: Convolution,
    source: str,
    *,
    stride: int,
    relu: bool,
    kind: type[np.floating[Any]] = np.float32,
) -> str:
    """One convolution in `kind`, padded to keep the picture's size (before the stride)."""
    side = layer.kernel.shape[2]
    weights = writer.constant(f"{name}/kernel", layer.kernel.astype(kind))
    bias = writer.constant(f"{name}/bias", layer.bias.astype(kind))
    output = writer.add(
        "Conv", [source, weights, bias], f"{name}_linear" if relu else name,
        kernel_shape=[side, side], strides=[stride, stride], pads=[side // 2] * 4,
    )  # fmt: skip
    return writer.add("Relu", [output], name) if relu else output


def normalised(writer: GraphWriter, pooled: str) -> str:
    """float32 (batch, dim, 1, 1) → the graph's output, rows divided by their length."""
    flat = writer.add("Flatten", [pooled], "features", axis=1)
    norm = writer.add("ReduceL2", [flat], "norm", axes=[1], keepdims=1)
    floor = writer.constant("smallest_norm", np.float32(SMALLEST_NORM))
    return writer.add("Div", [flat, writer.add("Max", [norm, floor], "safe_norm")], OUTPUT)


def read_network(
    model: onnx.ModelProto, *, mean: tuple[float, float, float], late_stride: bool, source: str
) -> Network:
    """The network back out of a float32 graph of `build_graph`. Raises KeyError where it is another graph."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    names = [name.removesuffix("/kernel") for name in values if name.endswith("/kernel")]
    return Network(
        {name: Convolution(values[f"{name}/kernel"], values[f"{name}/bias"]) for name in names},
        mean,
        late_stride,
        source,
    )
