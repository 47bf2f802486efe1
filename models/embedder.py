"""The Embedder: pixels in, unit vectors out, whichever runtime computes them.

Batch-only and synchronous; who calls it decides about threads. Every graph of ours names its ends as below.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.preprocessing import Preprocessing

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]

# Names of a graph's input, uint8 (batch, side, side, 3), and of its output, float32 (batch, dim).
INPUT = "pixels"
OUTPUT = "embedding"


class Embedder(Protocol):
    """fingerprint: equal for embedders whose vectors may be compared. dim: length of an embedding.

    preprocessing: what a picture must become before `embed` takes it.
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    def embed(self, pixels: Pixels) -> Embeddings:
        """uint8 (n, side, side, 3) RGB → float32 (n, dim), rows of unit length. Raises EmbeddingInvalid."""
        ...
