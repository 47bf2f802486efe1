"""A sieve for rows of a file of vectors: it keeps back those that cannot be imported, by row and reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from index.limits import ID, ID_RULE
from service.imports.sources.rows import Fault, Row
from service.imports.sources.source import Bad


class VectorFileError(Exception):
    """A file of vectors cannot be read. One line: which, where in it, and what to do."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that follow each other. vectors: float32 (n, dim) with n ids; metadata: n objects, or None for none.

    bad: rows between them that cannot be imported.
    """

    ids: list[str]
    vectors: npt.NDArray[np.float32]
    metadata: list[Mapping[str, Any]] | None
    bad: list[Bad] = field(default_factory=list)


class Sieve:
    """One file's. where: a row's number, from 0, as a person finds it."""

    def __init__(self, where: Callable[[int], str]) -> None:
        self._where = where
        self._seen: set[int] = set()  # hashes of ids, of 64 bits

    def block(self, start: int, rows: Sequence[Row | Fault], vectors: npt.NDArray[np.float32]) -> Block:
        """What can be imported of the rows from number `start` on, float32 (n, dim) with n rows."""
        faults = _vector_faults(vectors)
        kept: list[int] = []
        bad: list[Bad] = []
        for position, row in enumerate(rows):
            fault = row if isinstance(row, Fault) else faults.get(position) or self._fault(row)
            if fault is None:
                kept.append(position)
            else:
                id = row.id if isinstance(row, Row) else ""
                bad.append(Bad(self._where(start + position), fault.reason, fault.slug, id, start + position))
        good = [row for row in (rows[position] for position in kept) if isinstance(row, Row)]
        return Block(
            [row.id for row in good],
            vectors if len(kept) == len(rows) else np.ascontiguousarray(vectors[kept]),
            [row.metadata for row in good] if any(row.metadata for row in good) else None,
            bad,
        )

    def _fault(self, row: Row) -> Fault | None:
        if not ID.fullmatch(row.id):
            return Fault(f"{row.id[:60]!r} is no id, which is {ID_RULE}", "invalid-id")
        key = hash(row.id)
        if key in self._seen:
            return Fault(f"the id {row.id} is that of an earlier row", "duplicate-id")
        self._seen.add(key)
        return None


def _vector_faults(vectors: npt.NDArray[np.float32]) -> dict[int, Fault]:
    squares = np.einsum("ij,ij->i", vectors, vectors)
    found: dict[int, Fault] = {}
    # Squares that over- or underflow float32 may belong to sound vectors; bad ones are always among them.
    for position in np.flatnonzero(~((squares > 1e-30) & (squares < 1e30))).tolist():
        wide = vectors[position].astype(np.float64)
        if not np.isfinite(wide).all():
            found[position] = Fault("a number of the vector is missing or not finite", "invalid-vector")
        elif not wide.any():
            found[position] = Fault("the vector is zero, so it has no direction", "invalid-vector")
    return found
