"""The IntegerWriter: convolutions in integers, uint8 activations and int8 weights with a scale per output channel.

Written as QDQ, which onnxruntime fuses into integer kernels; int8 activations would take a slower kernel on x86. The
picture's own bytes are the first activation: nothing is rounded there. An activation's range begins at zero where it is
behind a ReLU and ends at most at six behind a ReLU6, so that rounding into it clips as they would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.backbones.convolution import Convolution, Float64
from models.backbones.writer import GraphWriter, groups

# Steps that a bias may have: a quarter of int32's, so that sums on top of it fit as well.
_MOST_BIAS = 2.0**29


def quantized(kernel: Float64, least: Float64 | float = 0.0) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """float64 (out, in, h, w) → int8 of that shape in -127…127 and a float32 scale per output channel.

    least: smallest scale of each output channel.
    """
    scale = np.maximum(np.maximum(np.abs(kernel).max((1, 2, 3)), 1e-12) / 127, least).astype(np.float32)
    steps = np.round(kernel / scale.astype(np.float64)[:, None, None, None])
    return np.clip(steps, -127, 127).astype(np.int8), scale


@dataclass(frozen=True, slots=True)
class Quantised:
    """source: the dequantised tensor; scale: of its uint8; mean: of each channel, where a convolution reads it."""

    source: str
    scale: float
    mean: Float64 | None


@dataclass(slots=True)
class IntegerWriter:
    """convolutions, ranges and means by name; `ranges` of every tensor that is rounded, `means` of those read."""

    convolutions: Mapping[str, Convolution]
    ranges: Mapping[str, tuple[float, float]]
    means: Mapping[str, Float64]
    graph: GraphWriter = field(default_factory=GraphWriter)

    def pixels(self, planes: str, *, zero: int) -> Quantised:
        """The picture's bytes as the first activation. planes: uint8 (batch, 3, h, w); `zero` becomes 0."""
        scale = self.graph.constant("pixel/scale", np.float32(1))
        point = self.graph.constant("pixel/zero", np.uint8(zero))
        return Quantised(self.graph.add("DequantizeLinear", [planes, scale, point], "pixel_values"), 1.0, None)

    def convolve(
        self,
        name: str,
        value: Quantised,
        *,
        stride: int = 1,
        relu: bool = False,
        pads: Sequence[int] | None = None,
        offset: Float64 | None = None,
    ) -> Quantised:
        """offset: added to each input channel before the convolution. pads: as for `convolution`."""
        graph, layer = self.graph, self.convolutions[name]
        kernel = layer.kernel.astype(np.float64)
        side = kernel.shape[2]
        # A channel that training has switched off has next to no weights but a bias, which must fit its int32.
        weights, scale = quantized(kernel, np.abs(layer.bias.astype(np.float64)) / (value.scale * _MOST_BIAS))
        rounded = weights * scale.astype(np.float64)[:, None, None, None]
        # On average the rounded weights must give what the exact ones gave (Nagel et al. 2019, section 4.2).
        bias = layer.bias.astype(np.float64)
        if value.mean is not None:
            bias = bias - _summed(rounded - kernel, value.mean, depthwise=layer.is_depthwise)
        if offset is not None:
            bias = bias + _summed(rounded, offset, depthwise=layer.is_depthwise)
        bias_scale = np.float32(value.scale) * scale
        integer_bias = np.clip(np.round(bias / bias_scale.astype(np.float64)), -(2**31) + 1, 2**31 - 1)
        inputs = [
            value.source,
            self._dequantised(f"{name}/kernel", weights, scale),
            self._dequantised(f"{name}/bias", integer_bias.astype(np.int32), bias_scale),
        ]
        result = graph.add(
            "Conv", inputs, f"{name}_linear",
            kernel_shape=[side, side], strides=[stride] * 2, pads=list(pads or [side // 2] * 4), **groups(layer),
        )  # fmt: skip
        if relu:
            result = graph.add("Relu", [result], f"{name}_relu")
        return self._quantised(name, result)

    def add(self, name: str, branch: Quantised, shortcut: Quantised, *, relu: bool = False) -> Quantised:
        total = self.graph.add("Add", [branch.source, shortcut.source], f"{name}_sum")
        return self._quantised(name, self.graph.add("Relu", [total], f"{name}_relu") if relu else total)

    def _quantised(self, name: str, source: str) -> Quantised:
        low, high = self.ranges[name]
        scale = np.float32((high - low) / 255)
        self.graph.constant(f"{name}/scale", scale)
        self.graph.constant(f"{name}/zero", np.uint8(np.clip(round(-low / float(scale)), 0, 255)))
        return self.requantised(name, source, like=name, scale=float(scale))

    def requantised(self, name: str, source: str, *, like: str, scale: float) -> Quantised:
        parameters = [f"{like}/scale", f"{like}/zero"]
        steps = self.graph.add("QuantizeLinear", [source, *parameters], f"{name}_steps")
        value = self.graph.add("DequantizeLinear", [steps, *parameters], f"{name}_values")
        return Quantised(value, scale, self.means.get(name))

    def _dequantised(
        self, name: str, steps: npt.NDArray[np.int8] | npt.NDArray[np.int32], scale: npt.NDArray[np.float32]
    ) -> str:
        inputs = [
            self.graph.constant(name, steps),
            self.graph.constant(f"{name}_scale", scale),
            self.graph.constant(f"{name}_zero", np.zeros(len(scale), steps.dtype)),
        ]
        return self.graph.add("DequantizeLinear", inputs, f"{name}_values", axis=0)


def _summed(kernel: Float64, values: Float64, *, depthwise: bool) -> Float64:
    """What a constant value per input channel adds to each output channel: float64 (out,)."""
    summed: Float64 = kernel.sum((1, 2, 3)) * values if depthwise else np.einsum("oihw,i->o", kernel, values)
    return summed
