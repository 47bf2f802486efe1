"""The int8 network: uint8 activations, int8 weights with a scale per output channel, every convolution in integers.

Written as QDQ, which onnxruntime fuses into integer kernels; int8 activations would take a slower kernel on x86. The
picture's own bytes are the first activation: nothing is rounded there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from models.backbones.resnet50.activations import Activations
from models.backbones.resnet50.graph import POOLED, GraphWriter, normalised
from models.backbones.resnet50.weights import STAGES, Network
from models.embedder import INPUT

RECIPE = "int8-1"
Float64 = npt.NDArray[np.float64]

# The uint8 value that stands for zero in the picture; the distance to each channel's mean is in the bias.
_PIXEL_ZERO = 114


def build_int8(network: Network, activations: Activations) -> onnx.ModelProto:
    """Input and output as of `build_graph`; `activations` must have been recorded on this network."""
    writer = _IntegerWriter(network, activations.ranges, activations.means)
    value = writer.stem()
    for stage, blocks in STAGES.items():
        for block in blocks:
            first = 2 if block == "a" and stage > 2 else 1
            early, late = (1, first) if network.late_stride else (first, 1)
            name = f"res{stage}{block}"
            shortcut = writer.convolve(f"{name}_branch1", value, stride=first) if block == "a" else value
            branch = writer.convolve(f"{name}_branch2a", value, stride=early, relu=True)
            branch = writer.convolve(f"{name}_branch2b", branch, stride=late, relu=True)
            branch = writer.convolve(f"{name}_branch2c", branch)
            value = writer.add_branches(name, branch, shortcut)
    graph = writer.graph
    normalised(graph, graph.add("GlobalAveragePool", [value.source], POOLED))
    return graph.model(network.dim)


def quantized(kernel: Float64) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """float64 (out, in, h, w) → int8 of that shape in -127…127 and a float32 scale per output channel."""
    scale = (np.maximum(np.abs(kernel).max((1, 2, 3)), 1e-12) / 127).astype(np.float32)
    steps = np.round(kernel / scale.astype(np.float64)[:, None, None, None])
    return np.clip(steps, -127, 127).astype(np.int8), scale


@dataclass(frozen=True, slots=True)
class _Activation:
    """source: the dequantised tensor; scale: of its uint8; mean: of each channel, where a convolution reads it."""

    source: str
    scale: float
    mean: Float64 | None


@dataclass(slots=True)
class _IntegerWriter:
    network: Network
    ranges: Mapping[str, tuple[float, float]]
    means: Mapping[str, Float64]
    graph: GraphWriter = field(default_factory=GraphWriter)

    def stem(self) -> _Activation:
        """Pads the bytes with each channel's mean (what zero padding is after subtraction), convolves, pools."""
        graph, mean = self.graph, np.array(self.network.mean)
        channels = ["red", "green", "blue"]
        graph.split(INPUT, channels, axis=3)
        pads = graph.constant("border", np.array([0, 3, 3, 0, 0, 3, 3, 0], np.int64))
        padded = [
            graph.add(
                "Pad", [channel, pads, graph.constant(f"{channel}_mean", np.uint8(round(value)))], f"{channel}_padded"
            )
            for channel, value in zip(channels, mean, strict=True)
        ]
        planes = graph.add("Transpose", [graph.add("Concat", padded, "padded", axis=3)], "planes", perm=[0, 3, 1, 2])
        scale = graph.constant("pixel/scale", np.float32(1))
        zero = graph.constant("pixel/zero", np.uint8(_PIXEL_ZERO))
        source = graph.add("DequantizeLinear", [planes, scale, zero], "pixel_values")
        # The convolution sees p − 114 and should see p − mean: the rest goes through the rounded weights into the bias.
        pixel = _Activation(source, 1.0, None)
        stem = self.convolve("conv1", pixel, stride=2, relu=True, padding=0, offset=_PIXEL_ZERO - mean)
        value = graph.add("MaxPool", [stem.source], "pool1", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        return self._requantised("pool1", value, like="conv1", scale=stem.scale)

    def convolve(
        self,
        name: str,
        value: _Activation,
        *,
        stride: int = 1,
        relu: bool = False,
        padding: int | None = None,
        offset: Float64 | None = None,
    ) -> _Activation:
        """offset: added to each input channel before the convolution."""
        graph, layer = self.graph, self.network.convolutions[name]
        kernel = layer.kernel.astype(np.float64)
        side = kernel.shape[2]
        weights, scale = quantized(kernel)
        rounded = weights * scale.astype(np.float64)[:, None, None, None]
        # On average the rounded weights must give what the exact ones gave (Nagel et al. 2019, section 4.2).
        bias = layer.bias.astype(np.float64)
        if value.mean is not None:
            bias = bias - np.einsum("oihw,i->o", rounded - kernel, value.mean)
        if offset is not None:
            bias = bias + np.einsum("oihw,i->o", rounded, offset)
        bias_scale = np.float32(value.scale) * scale
        integer_bias = np.clip(np.round(bias / bias_scale.astype(np.float64)), -(2**31) + 1, 2**31 - 1)
        inputs = [
            value.source,
            self._dequantised(f"{name}/kernel", weights, scale),
            self._dequantised(f"{name}/bias", integer_bias.astype(np.int32), bias_scale),
        ]
        pads = [side // 2 if padding is None else padding] * 4
        result = graph.add("Conv", inputs, f"{name}_linear", kernel_shape=[side, side], strides=[stride] * 2, pads=pads)
        if relu:
            result = graph.add("Relu", [result], f"{name}_relu")
        return self._quantised(name, result)

    def add_branches(self, name: str, branch: _Activation, shortcut: _Activation) -> _Activation:
        total = self.graph.add("Add", [branch.source, shortcut.source], f"{name}_sum")
        return self._quantised(name, self.graph.add("Relu", [total], f"{name}_relu"))

    def _quantised(self, name: str, source: str) -> _Activation:
        low, high = self.ranges[name]
        scale = np.float32((high - low) / 255)
        self.graph.constant(f"{name}/scale", scale)
        self.graph.constant(f"{name}/zero", np.uint8(np.clip(round(-low / float(scale)), 0, 255)))
        return self._requantised(name, source, like=name, scale=float(scale))

    def _requantised(self, name: str, source: str, *, like: str, scale: float) -> _Activation:
        parameters = [f"{like}/scale", f"{like}/zero"]
        steps = self.graph.add("QuantizeLinear", [source, *parameters], f"{name}_steps")
        value = self.graph.add("DequantizeLinear", [steps, *parameters], f"{name}_values")
        return _Activation(value, scale, self.means.get(name))

    def _dequantised(
        self, name: str, steps: npt.NDArray[np.int8] | npt.NDArray[np.int32], scale: npt.NDArray[np.float32]
    ) -> str:
        inputs = [
            self.graph.constant(name, steps),
            self.graph.constant(f"{name}_scale", scale),
            self.graph.constant(f"{name}_zero", np.zeros(len(scale), steps.dtype)),
        ]
        return self.graph.add("DequantizeLinear", inputs, f"{name}_values", axis=0)
