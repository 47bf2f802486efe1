"""The catalogue that is evaluated: items, labels and vectors out of one exported file, walked through in blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index.filters import values_at
from service.evaluation.ranking import Listed
from service.evaluation.table import as_label
from service.imports.sources.vectors.vector_parquet import open_parquet

BLOCK = 2_048


@dataclass(frozen=True, slots=True)
class Vectors:
    """A parquet file that an export wrote. listed: its items in order; keys: metadata keys, the most frequent first."""

    file: Path
    listed: Listed
    keys: list[str]

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """Unit rows float32 (n, dim), in the order of `listed`, from the beginning each time."""
        for block in open_parquet(self.file, BLOCK)[2]:
            yield unit(block.vectors)


def opened(file: Path, key: str, files: Mapping[str, str]) -> Vectors:
    """Reads the items once through. key: of their labels; files: sha256 by id. Raises VectorFileError, OSError."""
    ids: list[str] = []
    labels: list[tuple[str, ...]] = []
    keys: Counter[str] = Counter()
    for block in open_parquet(file, BLOCK)[2]:
        ids += block.ids
        for metadata in block.metadata or [{}] * len(block.ids):
            keys.update(metadata.keys())
            labels.append(tuple(label for value in values_at(metadata, key) if (label := as_label(value))))
    listed = Listed(ids, labels, [files.get(id, "") for id in ids])
    return Vectors(file, listed, [name for name, _ in keys.most_common()])


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of unit length: a file may have been rounded."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: npt.NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return found
