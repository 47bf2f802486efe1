"""Exact search: every vector is compared. For small collections, and for what is newer than a big index.

Vectors lie in FAISS blocks of fixed size in their stored type, so growing never copies what is there. Keys only ever
increase, so a key finds its row by bisection and no dictionary of keys is kept. Removed rows are masked at once and
their memory is given back when they are a quarter of all.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from index.embedded.ann.arrays import Floats, Keys, Stored

_BLOCK = 4096  # rows; a multiple of 8, so that a block's mask starts at a byte
_FEW = 0.1  # below this share of rows, `allowed` is answered by gathering those rows instead of masking all others


class FlatIndex:
    """Unit vectors of one collection by inner product. The caller keeps searches and mutation apart."""

    kind = "flat"

    def __init__(self, dim: int, type: np.dtype[Any]) -> None:
        """type: of a stored number, float16 or float32."""
        self.dim = dim
        self.type = type
        self._blocks: list[faiss.IndexFlatCodes] = []
        self._keys: Keys = np.empty(64, np.int64)
        self._alive: npt.NDArray[np.bool_] = np.empty(64, np.bool_)
        self._rows = 0
        self._dead = 0

    def __len__(self) -> int:
        return self._rows - self._dead

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._rows * (self.dim * self.type.itemsize + 9)

    @property
    def last_key(self) -> int:
        """The greatest key ever added, 0 before."""
        return int(self._keys[self._rows - 1]) if self._rows else 0

    @property
    def keys(self) -> Keys:
        """Keys that are not removed, increasing."""
        return self._keys[: self._rows][self._alive[: self._rows]]

    def add(self, keys: Keys, vectors: Floats | Stored) -> None:
        """keys int64 (n,), increasing and greater than every earlier one; vectors (n, dim), unit rows."""
        if not len(keys):
            return
        if keys[0] <= self.last_key and self._rows:
            raise ValueError("keys must increase")
        self._reserve(self._rows + len(keys))
        self._keys[self._rows : self._rows + len(keys)] = keys
        self._alive[self._rows : self._rows + len(keys)] = True
        start = 0
        while start < len(keys):
            used = self._rows % _BLOCK
            if not used:
                self._blocks.append(self._block())
            stop = min(len(keys), start + _BLOCK - used)
            codes = np.ascontiguousarray(vectors[start:stop], dtype=self.type)
            self._blocks[-1].add_sa_codes(codes.view(np.uint8))
            self._rows += stop - start
            start = stop

    def remove(self, keys: Keys) -> None:
        """Unknown keys are passed over."""
        rows = self._find(np.asarray(keys, np.int64))
        rows = rows[self._alive[rows]]
        self._alive[rows] = False
        self._dead += len(rows)
        if self._dead * 4 > self._rows and (self._dead >= _BLOCK or self._dead == self._rows):
            self._compact()

    def search(self, vectors: Floats, k: int, allowed: Keys | None = None) -> tuple[Floats, Keys]:
        """Unit queries float32 (n, dim) → cosines float32 (n, k), descending, and keys int64 (n, k).

        Missing places hold -inf and -1; equal scores come in the order of keys. allowed: increasing keys, None for all.
        """
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        found = np.full((len(vectors), k), -1, np.int64)
        if k < 1 or not len(self):
            return scores, found
        faiss.omp_set_num_threads(1)  # of the calling thread: one query is no work for a pool of its own
        mask = self._alive[: self._rows]
        if allowed is not None:
            rows = self._find(allowed)
            if len(rows) <= self._rows * _FEW:
                return self._among(vectors, k, rows[self._alive[rows]])
            only = np.zeros(self._rows, np.bool_)
            only[rows] = True
            mask = only & mask
        masked = allowed is not None or self._dead > 0
        if len(vectors) == len(self._blocks) == 1 and not masked:
            return self._alone(vectors, k)
        parts = [
            self._search_block(number, vectors, k, mask if masked else None) for number in range(len(self._blocks))
        ]
        all_scores = np.concatenate([part[0] for part in parts], axis=1)
        all_rows = np.concatenate([part[1] for part in parts], axis=1)
        return self._best(all_scores, all_rows, k)

    def _alone(self, vectors: Floats, k: int) -> tuple[Floats, Keys]:
        """One query of the only block, nothing left out, as most are: half of the time of the way for all."""
        some = min(k, self._rows)
        scores, rows = self._blocks[0].search(vectors, some)
        if some < k or not (scores[0, :-1] > scores[0, 1:]).all():  # equal ones, NaN: to be put in order
            return self._best(scores, rows, k)
        return scores, self._keys[rows]

    def vectors(self, keys: Keys) -> Stored:
        """Stored rows (n, dim) of known keys, in the order asked."""
        return self._gather(np.searchsorted(self._keys[: self._rows], keys))

    def _search_block(
        self, number: int, vectors: Floats, k: int, mask: npt.NDArray[np.bool_] | None
    ) -> tuple[Floats, Keys]:
        block = self._blocks[number]
        first = number * _BLOCK
        parameters = None
        if mask is not None:
            bits = np.packbits(mask[first : first + block.ntotal], bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        scores, rows = block.search(vectors, min(k, block.ntotal), params=parameters)
        return np.where(rows < 0, np.float32(-np.inf), scores), np.where(rows < 0, -1, rows + first)

    def _among(self, vectors: Floats, k: int, rows: Keys) -> tuple[Floats, Keys]:
        scores = np.full((len(vectors), len(rows)), -np.inf, np.float32)
        for start in range(0, len(rows), _BLOCK):
            some = self._gather(rows[start : start + _BLOCK]).astype(np.float32)
            scores[:, start : start + _BLOCK] = np.einsum("qd,rd->qr", vectors, some)
        return self._best(scores, np.broadcast_to(rows, scores.shape), k)

    def _best(self, scores: Floats, rows: Keys, k: int) -> tuple[Floats, Keys]:
        # Equal scores come in the order of their rows: the oldest first.
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        best = np.full((len(scores), k), -np.inf, np.float32)
        keys = np.full((len(scores), k), -1, np.int64)
        width = order.shape[1]
        best[:, :width] = np.take_along_axis(scores, order, axis=1)
        chosen = np.take_along_axis(rows, order, axis=1)
        keys[:, :width] = np.where(np.isneginf(best[:, :width]), -1, self._keys[np.maximum(chosen, 0)])
        return best, keys

    def _find(self, keys: Keys) -> Keys:
        rows = np.searchsorted(self._keys[: self._rows], keys)
        known = rows < self._rows
        known[known] = self._keys[rows[known]] == keys[known]
        return rows[known]

    def _gather(self, rows: Keys) -> Stored:
        out = np.empty((len(rows), self.dim), self.type)
        for number in np.unique(rows // _BLOCK):
            here = rows // _BLOCK == number
            out[here] = self._codes(self._blocks[number])[rows[here] % _BLOCK]
        return out

    def _codes(self, block: faiss.IndexFlatCodes) -> Stored:
        size = block.ntotal * self.dim * self.type.itemsize
        raw: Stored = faiss.rev_swig_ptr(block.codes.data(), size)
        return raw.view(self.type).reshape(block.ntotal, self.dim)

    def _block(self) -> faiss.IndexFlatCodes:
        if self.type.itemsize == 4:
            return faiss.IndexFlatIP(self.dim)
        block = faiss.IndexScalarQuantizer(self.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        block.is_trained = True
        return block

    def _reserve(self, rows: int) -> None:
        if rows > len(self._keys):
            size = max(rows, len(self._keys) * 2)
            self._keys = np.concatenate([self._keys[: self._rows], np.empty(size - self._rows, np.int64)])
            self._alive = np.concatenate([self._alive[: self._rows], np.empty(size - self._rows, np.bool_)])

    def _compact(self) -> None:
        fresh = FlatIndex(self.dim, self.type)
        for number in range(len(self._blocks)):
            block = self._blocks[number]
            part = slice(number * _BLOCK, number * _BLOCK + block.ntotal)
            alive = self._alive[part]
            fresh.add(self._keys[part][alive], self._codes(block)[alive])
            block.reset()  # each old block's memory goes before the next new one comes
        self._blocks, self._keys, self._alive = fresh._blocks, fresh._keys, fresh._alive
        self._rows, self._dead = fresh._rows, 0
