"""Neighbours as a job: found, kept beside the search index, and told page by page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from index.analysis import kept
from index.analysis.neighbours import Found, Neighbours, find
from index.errors import CacheUnusable
from index.types import Catalogue, Collection
from service.errors import InvalidRequest
from service.jobs.state import Counts
from service.jobs.task import Task
from service.threads import Threads

KIND = "neighbors"
_PAIRS = 10_000  # of a page
log = logging.getLogger("lookalike.analysis")


@dataclass(frozen=True, slots=True)
class NeighboursWork:
    """The work of one process; its result is the first page."""

    catalogue: Catalogue
    threads: Threads
    cores: int  # that it may take; searches go on beside it

    async def __call__(self, task: Task) -> Mapping[str, Any]:
        """Raises IndexNotReady, CollectionNotFound, Stopped."""
        limit = int(task.job.request["limit"])
        collection = self.catalogue.get(task.job.collection)

        def progress(done: int, total: int) -> None:
            task.check()
            if total:
                task.progress(Counts(total=total, done=done))

        def work() -> dict[str, Any]:
            path = kept.path_of(collection.cache, limit)
            known = _known(collection, limit)
            found = find(collection, limit, known, threads=self.cores, progress=progress)
            size = len(found.ids)
            task.progress(Counts(total=size, done=found.searched, unchanged=size - found.searched))
            if found.searched or known is None or len(known.keys) != size:
                try:
                    kept.write(path, found.neighbours)
                except OSError as error:
                    raise CacheUnusable(f"the neighbours cannot be kept: {error.strerror or error}") from error
            return page(found, 0)

        return await self.threads.write(work)


def later_page(collection: Collection, limit: int, cursor: str) -> dict[str, Any]:
    """A page of what was found last. Raises InvalidRequest where nothing was, or the cursor is none of ours."""
    known = _known(collection, limit)
    if known is None or not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise InvalidRequest("cursor", "not a cursor of these lists; start again without one")
    keys, ids = collection.keys()
    names = dict(zip(keys.tolist(), ids, strict=True))
    found = Found(known, [names.get(key, "") for key in known.keys.tolist()], 0)
    return page(found, int(np.searchsorted(known.keys, int(cursor), "right")))


def page(found: Found, first: int) -> dict[str, Any]:
    """Lists from number `first` on, with the cursor of the next; items that are gone are left out."""
    lists = found.neighbours
    stop = min(len(found.ids), first + max(1, _PAIRS // max(1, lists.limit)))
    items = []
    near = lists.near[first:stop]
    at = np.minimum(np.searchsorted(lists.keys, near), max(0, len(lists.keys) - 1))
    for id, keys, places, scores in zip(
        found.ids[first:stop], near.tolist(), at.tolist(), lists.scores[first:stop].tolist(), strict=True
    ):
        if id:
            pairs = zip(keys, places, scores, strict=True)
            named = [(found.ids[place], score) for key, place, score in pairs if key >= 0 and found.ids[place]]
            items.append({"id": id, "neighbors": [{"id": other, "score": score} for other, score in named]})
    more = stop < len(found.ids)
    return {"items": items, "next_cursor": str(int(lists.keys[stop - 1])) if more else None}


def _known(collection: Collection, limit: int) -> Neighbours | None:
    path = kept.path_of(collection.cache, limit)
    if not path.exists():
        return None
    try:
        return kept.read(path, limit)
    except CacheUnusable as error:
        log.warning("collection %s: %s", collection.name, error)
        return None
