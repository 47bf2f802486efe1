"""The GraphWriter: nodes and constants of an ONNX graph, and the parts that every backbone has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.backbones.convolution import Convolution
from models.embedder import INPUT, OUTPUT

Activation = Literal["relu", "relu6"]

POOLED = "pooled"
# A zero embedding stays zero instead of turning into NaN, so that the embedder can refuse it.
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

    def model(self, name: str, *, side: int, dim: int) -> onnx.ModelProto:
        """Checks and wraps what was collected: pictures of side × side to vectors of `dim`, any number at a time."""
        pixels = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", side, side, 3])
        embedding = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", dim])
        graph = helper.make_graph(self.nodes, name, [pixels], [embedding], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="lookalike")
        model.ir_version = _IR
        onnx.checker.check_model(model)
        return model


def convolution(
    writer: GraphWriter,
    name: str,
    layer: Convolution,
    source: str,
    *,
    stride: int,
    pads: Sequence[int] | None = None,
    activation: Activation | None = None,
    kind: type[np.floating[Any]] = np.float32,
) -> str:
    """One convolution in `kind`.

    pads: top, left, bottom, right; None keeps the picture's size (before the stride). The result has the name `name`,
    behind its activation.
    """
    side = layer.kernel.shape[2]
    weights = writer.constant(f"{name}/kernel", layer.kernel.astype(kind))
    bias = writer.constant(f"{name}/bias", layer.bias.astype(kind))
    output = writer.add(
        "Conv", [source, weights, bias], f"{name}_linear" if activation else name,
        kernel_shape=[side, side], strides=[stride, stride], pads=list(pads or [side // 2] * 4), **groups(layer),
    )  # fmt: skip
    if activation == "relu6":
        ends = [writer.constant(f"{name}/{end}", kind(end)) for end in (0, 6)]
        return writer.add("Clip", [output, *ends], name)
    return writer.add("Relu", [output], name) if activation else output


def groups(layer: Convolution) -> dict[str, int]:
    """The attribute of a convolution whose channels are each filtered by itself; none where all mix."""
    return {"group": len(layer.bias)} if layer.is_depthwise else {}


def centred_pixels(writer: GraphWriter, mean: Sequence[float]) -> str:
    """uint8 NHWC → float32 NCHW with the mean subtracted."""
    value = writer.add("Cast", [INPUT], "float_pixels", to=TensorProto.FLOAT)
    value = writer.add("Sub", [value, writer.constant("mean", np.array(mean, np.float32))], "centred")
    return writer.add("Transpose", [value], "channels_first", perm=[0, 3, 1, 2])


def pooled_features(writer: GraphWriter, value: str, *, half: bool) -> str:
    """The mean over all positions in float32, whatever the convolutions are in: (batch, dim, 1, 1)."""
    pooled = writer.add("GlobalAveragePool", [value], f"{POOLED}_half" if half else POOLED)
    return writer.add("Cast", [pooled], POOLED, to=TensorProto.FLOAT) if half else pooled


def normalised(writer: GraphWriter, pooled: str) -> str:
    """float32 (batch, dim, 1, 1) → the graph's output, rows divided by their length."""
    flat = writer.add("Flatten", [pooled], "features", axis=1)
    norm = writer.add("ReduceL2", [flat], "norm", axes=[1], keepdims=1)
    floor = writer.constant("smallest_norm", np.float32(SMALLEST_NORM))
    return writer.add("Div", [flat, writer.add("Max", [norm, floor], "safe_norm")], OUTPUT)


def read_convolutions(model: onnx.ModelProto) -> dict[str, Convolution]:
    """The convolutions back out of a float32 graph, by name."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    names = [name.removesuffix("/kernel") for name in values if name.endswith("/kernel")]
    return {name: Convolution(values[f"{name}/kernel"], values[f"{name}/bias"]) for name in names}
