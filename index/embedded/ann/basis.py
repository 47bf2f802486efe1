"""The principal axes of a catalogue, and the shape of an index over some of them.

How many axes a code needs differs between catalogues: where the leading ones hold little of the variance, neither more
lists nor more candidates make up for the rest. 20,000 vectors of nearly full rank, best 1,000 re-scored: recall .93
with 256 axes, .95 with 512, .999 with 1,024 (and .94 with 256 axes of 4 bits each).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.embedded.ann.arrays import Floats

AXES = (256, 512, 1_024)
_HELD = 0.75  # share of the variance that the first choice of axes holds


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the size and the grain of an index: axes kept of each vector, at `bits` each (1 or 2), and `finer`
    times as many lists as usual.
    """

    axes: int
    finer: int = 1
    bits: int = 1


@dataclass(frozen=True, slots=True)
class Basis:
    """mean: float32 (dim,); directions: float32 (dim, dim) rows, principal axes by falling variance; held: float64
    (dim,), share of the variance in the axes up to each.
    """

    mean: Floats
    directions: Floats
    held: npt.NDArray[np.float64]

    @classmethod
    def of(cls, vectors: Floats) -> Basis:
        """Of a sample float32 (m, dim), at least one row."""
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        variances, directions = np.linalg.eigh(centred.T @ centred)
        summed = np.cumsum(np.maximum(variances[::-1].astype(np.float64), 0))
        held = summed / summed[-1] if summed[-1] > 0 else np.ones(len(summed))
        return cls(mean, np.ascontiguousarray(directions.T[::-1]), held)

    @property
    def dim(self) -> int:
        return len(self.mean)

    def first(self) -> Shape:
        """What to begin with: the fewest axes that hold enough of the variance."""
        axes = next((axes for axes in AXES if self.held[min(axes, self.dim) - 1] >= _HELD), AXES[-1])
        return Shape(min(axes, self.dim))

    def fitting(self, shape: Shape) -> Shape:
        """The same with no more axes than there are."""
        return replace(shape, axes=min(shape.axes, self.dim))

    def all_axes(self, shape: Shape) -> Shape | None:
        """The same with as many axes as are ever kept; None where it has them."""
        most = min(AXES[-1], self.dim)
        return replace(shape, axes=most) if shape.axes < most else None

    def more_bits(self, shape: Shape) -> Shape | None:
        """The same with two bits an axis; None where it has them. Four are scanned at a tenth of the speed."""
        return replace(shape, bits=2) if shape.bits < 2 else None

    def turn(self, axes: int, random: np.random.Generator) -> Any:
        """A FAISS transform float32 (m, dim) → (m, axes): the leading axes less the mean, rotated at random."""
        rotation = np.linalg.qr(random.standard_normal((axes, axes)))[0].astype(np.float32)
        matrix = np.ascontiguousarray(rotation @ self.directions[:axes], dtype=np.float32)
        transform = faiss.LinearTransform(self.dim, axes, True)
        faiss.copy_array_to_vector(matrix.ravel(), transform.A)
        faiss.copy_array_to_vector(-matrix @ self.mean, transform.b)
        transform.is_trained = True
        return transform
