"""A real embedder without a network: how much of each colour each quarter of a picture holds.

For tests, and for load tests of everything but the network (`LOOKALIKE_MODEL=histogram`). It knows colours and no
things: nobody should search a catalogue with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.artefact import Artefact
from models.preprocessing import Preprocessing

NAME = "histogram"
PROVIDER = "no network"
# No quality is claimed: high enough that an answer is not all matches, low enough that some are.
THRESHOLD = 0.8
_LEVELS = 8
_REGIONS = 4


class HistogramEmbedder:
    """Square roots of colour counts (8 × 8 × 8 bins in each quarter of the picture): 2048 numbers, unit length.

    The square root makes the cosine the Bhattacharyya coefficient of two histograms. Thread-safe.
    """

    fingerprint: str = "histogram-1"
    name: str = NAME
    precision: str = "fp32"
    preprocessing: Preprocessing = Preprocessing()
    dim: int = _REGIONS * _LEVELS**3

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 (n, h, w, 3) RGB → float32 (n, 2048), rows of unit length."""
        count, height, width, _ = pixels.shape
        levels = (pixels >> 5).astype(np.int64)
        colour = (levels[..., 0] * _LEVELS + levels[..., 1]) * _LEVELS + levels[..., 2]
        lower = (np.arange(height) * 2 // height)[:, None]
        right = (np.arange(width) * 2 // width)[None, :]
        place = colour + (2 * lower + right) * _LEVELS**3
        roots = np.zeros((count, self.dim), np.float32)
        for row, places in zip(roots, place.reshape(count, -1), strict=True):
            row[:] = np.sqrt(np.bincount(places, minlength=self.dim) / (height * width))
        return roots

    def embed_with_map(self, pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The embeddings, and what each quarter gives to them: float32 (n, 2, 2, 512), whose cells are not averaged."""
        rows = self.embed(pixels)
        return rows, rows.reshape(len(rows), 2, 2, -1)


def artefact() -> Artefact:
    """What a service keeps of it; there is no file, `path` names none."""
    made = HistogramEmbedder()
    return Artefact(
        name=made.name,
        precision=made.precision,
        fingerprint=made.fingerprint,
        dim=made.dim,
        path=Path("histogram.onnx"),
        sha256="",
        default_threshold=THRESHOLD,
        preprocessing=made.preprocessing,
        source="no weights: colours are counted",
        recipe="histogram of colours, by quarters",
        golden="",
        details={},
    )
