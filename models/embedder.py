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
FeatureMaps = npt.NDArray[np.float32]

# Names of a graph's input, uint8 (batch, side, side, 3), and of its output, float32 (batch, dim).
INPUT = "pixels"
OUTPUT = "embedding"
# Of the output that a graph gets at load where feature maps are asked for, float32 (batch, rows, columns, dim).
MAP = "feature_map"


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

    def embed_with_map(self, pixels: Pixels) -> tuple[Embeddings, FeatureMaps]:
        """The embeddings, and of the same run the last feature map: float32 (n, rows, columns, channels), C order.

        The embeddings are those of `embed` (in fp32 and int8 to the bit): the direction of the mean over a map's
        places. Row 0 is the picture's top, column 0 its left; a place is 1 ⁄ rows of the pixels high and sees more than
        that. ResNet50: 7 × 7 × 2048 (401 kB), EfficientNet-Lite2: 9 × 9 × 1280. The first call loads a second session,
        which `embed` never uses. Raises as `embed`, and ArtefactCorrupt.
        """
        ...
