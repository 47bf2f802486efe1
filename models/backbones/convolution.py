"""The Convolution: a kernel and a bias with the batch norm behind it folded in, whatever file it came from.

Folded in float64 and rounded to float32 once, so that the same file gives the same bits everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """kernel: float32 (out, in ⁄ groups, height, width); bias: float32 (out,). Batch norm is already inside."""

    kernel: Float32
    bias: Float32

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is filtered by itself."""
        return self.kernel.shape[1] == 1 and len(self.bias) > 1


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """Each float64 (out,)."""

    gamma: Float64
    beta: Float64
    mean: Float64
    variance: Float64


def fold(kernel: Float64, bias: Float64, norm: BatchNorm, epsilon: float) -> Convolution:
    """Batch norm moved into the convolution before it: w·g, (b − mean)·g + beta with g = gamma ⁄ √(variance + ε)."""
    gain = norm.gamma / np.sqrt(norm.variance + epsilon)
    folded = (bias - norm.mean) * gain + norm.beta
    scaled = np.ascontiguousarray(kernel * gain[:, None, None, None])
    return Convolution(scaled.astype(np.float32), folded.astype(np.float32))
