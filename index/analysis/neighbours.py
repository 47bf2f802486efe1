"""Neighbours: every item's nearest others, found by the engine's lean search, and found again only where they changed.

An item's number (`Collection.keys`) is another one once its vector is. So what changed since the last time is the
difference of two sets of numbers, and an item's list is outdated where it holds one that is gone, or where one that is
new is as near as its last. Which those are is told exactly, by comparing every new vector with every old one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index.errors import ItemNotFound
from index.items import Keys, Vector
from index.types import Collection

BATCH = 256  # items of one call of the lean search
PAGE = 1_000
# So many new vectors, at 2048 numbers, cost as much to compare with all others as all others cost to be searched anew,
# whatever the size: 100 billion operations a second against 0.25 ms a search.
MOST_NEW = 5_000
_AT_ONCE = 2_048
# Scores of one pair by two ways of computing them differ by less.
_EQUAL = 4e-4

Progress = Callable[[int, int], None]  # items done, and in all; what it raises ends the work


@dataclass(frozen=True, slots=True)
class Neighbours:
    """keys: int64 (n,), increasing, an item each. near: keys of its nearest others int64 (n, limit), best first, -1
    where there are no more; scores: float32 (n, limit), cosines −1…1, −inf there.
    """

    keys: Keys
    near: npt.NDArray[np.int64]
    scores: Vector

    @property
    def limit(self) -> int:
        """The length of a list."""
        return int(self.near.shape[1])

    @classmethod
    def empty(cls, limit: int) -> Neighbours:
        """Of no item."""
        return cls(np.empty(0, np.int64), np.empty((0, limit), np.int64), np.empty((0, limit), np.float32))


@dataclass(frozen=True, slots=True)
class Found:
    """neighbours: of the items named by `ids`, in the same order. searched: how many of them were searched for now."""

    neighbours: Neighbours
    ids: list[str]
    searched: int


def find(
    collection: Collection,
    limit: int,
    known: Neighbours | None = None,
    *,
    threads: int = 2,
    progress: Progress | None = None,
) -> Found:
    """The `limit` nearest others of every item there is now. known: what was found before, of this collection.

    What is written meanwhile may be in a list or not; the next call finds it. Raises IndexNotReady, CollectionNotFound,
    and what `progress` raises.
    """
    report = progress or _ignore
    keys, ids = collection.keys()
    if known is None or known.limit != limit:
        known = Neighbours.empty(limit)
    near = np.full((len(keys), limit), -1, np.int64)
    scores = np.full((len(keys), limit), -np.inf, np.float32)
    place = np.searchsorted(known.keys, keys)
    old = place < len(known.keys)
    old[old] = known.keys[place[old]] == keys[old]
    near[old], scores[old] = known.near[place[old]], known.scores[place[old]]
    due = ~old
    due |= (~np.isin(near, keys) & (near >= 0)).any(axis=1)
    new = np.flatnonzero(~old)
    most = max(1, MOST_NEW * 2048 // collection.dim)
    if len(new) > most or 2 * len(new) > len(keys):
        due[:] = True
    elif len(new):
        due |= _reached(collection, ids, new, due, scores, report)
    rows = np.flatnonzero(due)
    _search(collection, keys, ids, rows, near, scores, threads, report)
    return Found(Neighbours(keys, near, scores), ids, len(rows))


def _reached(
    collection: Collection,
    ids: Sequence[str],
    new: npt.NDArray[np.int64],
    due: npt.NDArray[np.bool_],
    scores: Vector,
    report: Progress,
) -> npt.NDArray[np.bool_]:
    """bool (n,): items to which a new one is as near as the last of their list. new: places of the new ones."""
    _, fresh = _vectors(collection, [ids[place] for place in new.tolist()])
    reached = np.zeros(len(ids), np.bool_)
    places = {id: place for place, id in enumerate(ids)}
    last = scores[:, -1] - _EQUAL
    for names, vectors in _walk(collection):
        report(0, 0)
        known = [(row, places[id]) for row, id in enumerate(names) if id in places and not due[places[id]]]
        if not known:
            continue
        rows, at = (np.array(each) for each in zip(*known, strict=True))
        best = np.full(len(rows), -np.inf, np.float32)
        for start in range(0, len(fresh), _AT_ONCE):
            np.maximum(best, (vectors[rows] @ fresh[start : start + _AT_ONCE].T).max(axis=1), out=best)
        reached[at] = best >= last[at]
    return reached


def _search(
    collection: Collection,
    keys: Keys,
    ids: Sequence[str],
    rows: npt.NDArray[np.int64],
    near: npt.NDArray[np.int64],
    scores: Vector,
    threads: int,
    report: Progress,
) -> None:
    """Fills the lists of these rows; of an item that is gone meanwhile it stays empty."""
    limit = near.shape[1]
    places = {id: place for place, id in enumerate(ids)}

    def batch(part: list[int]) -> list[int]:
        there, vectors = _vectors(collection, [ids[place] for place in part])
        near[part], scores[part] = -1, -np.inf
        if not there:
            return part
        for id, found in zip(there, collection.nearest(vectors, limit + 1), strict=True):
            # Itself is left out; of many alike it may not be among the nearest.
            kept = [at for at, other in enumerate(found.ids) if other != id and other in places][:limit]
            row = places[id]
            near[row, : len(kept)] = keys[[places[found.ids[at]] for at in kept]]
            scores[row, : len(kept)] = found.scores[kept]
        return part

    done = 0
    listed = rows.tolist()
    with ThreadPoolExecutor(threads, thread_name_prefix="neighbours") as pool:
        try:
            for part in pool.map(batch, [listed[start : start + BATCH] for start in range(0, len(listed), BATCH)]):
                done += len(part)
                report(done, len(listed))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _vectors(collection: Collection, ids: Sequence[str]) -> tuple[list[str], Vector]:
    """Vectors float32 (m, dim) of those that are there and sound, and which those are."""
    try:
        return list(ids), collection.vectors(ids)
    except ItemNotFound:
        if len(ids) == 1:
            return [], np.empty((0, collection.dim), np.float32)
    half = len(ids) // 2
    parts = [_vectors(collection, ids[:half]), _vectors(collection, ids[half:])]
    return [id for names, _ in parts for id in names], np.concatenate([rows for _, rows in parts])


def _walk(collection: Collection) -> Iterator[tuple[list[str], Vector]]:
    cursor: str | None = None
    while True:
        page, vectors = collection.scan_vectors(limit=PAGE, cursor=cursor)
        yield [item.id for item in page.items], vectors
        cursor = page.next_cursor
        if cursor is None:
            return


def _ignore(done: int, total: int) -> None:
    pass
