"""Erase: takes away what somebody is to have no copy of any more, and sees to it that no file holds it.

The same from a command that owns the directory and from its server. docs/operations.md says what is reached.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from index.types import Catalogue
from service import snapshots
from service.access.access import OWNER
from service.access.audit import Audit
from service.access.keys import Keys
from service.errors import InvalidRequest
from service.jobs.folders import FOLDER
from service.jobs.store import JobStore
from service.text import readable

DEFAULT = "default"
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What is deleted first; nothing where all is left out. ids: of `collection`, which goes as a whole without them.

    key: a key's id; it is revoked, and the collection that it opens alone goes with it. snapshots: whether files of
    snapshots that may hold what was deleted are removed.
    """

    collection: str | None = None
    ids: Sequence[str] = ()
    key: str | None = None
    snapshots: bool = False

    def __post_init__(self) -> None:
        if self.ids and self.collection is None:
            raise InvalidRequest("id", "name the collection of these items too")


def due(since: float | None, days: float, now: float) -> bool:
    """Whether what was deleted at `since` is to be erased now. A clock that was set back puts nothing off for ever."""
    return since is not None and days > 0 and not -DAY < now - since < days * DAY


def revoke(catalogue: Catalogue, wish: Wish) -> Wish:
    """Takes the wish's key away; the wish as it goes on, with the key's collection.

    Raises RecordNotFound, InvalidRequest.
    """
    if wish.key is None:
        return wish
    if wish.collection is not None:
        raise InvalidRequest("key", "a key is erased with its own collection; name no other one")
    return replace(wish, collection=Keys(catalogue.records).revoke(wish.key).collection)


def remove_collection(catalogue: Catalogue, directory: Path, name: str) -> None:
    """Deletes a collection with its jobs, where nobody serves it; `default` is emptied. Raises CollectionNotFound."""
    if name == DEFAULT:
        catalogue.clear(name)
    else:
        catalogue.drop(name)
    store = JobStore(catalogue.records)
    jobs = [kept.job for kept in store.all(name)]
    store.forget(jobs)
    for job in jobs:
        shutil.rmtree(directory / FOLDER / job.id, ignore_errors=True)


def erase(
    catalogue: Catalogue, audit: Audit, wish: Wish, stopped: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Deletes the items of the wish, then erases all that was deleted so far; `left` names what could not be.

    Its collection and key are gone already. Raises ItemNotFound, CollectionNotFound, StorageError, StoreCorrupt.
    """
    deleted = catalogue.get(wish.collection).delete(wish.ids) if wish.ids and wish.collection else 0
    audit.forget(wish.collection, wish.ids, wish.key)
    removed, kept = 0, []
    for each in snapshots.held(catalogue):
        if wish.snapshots:
            each.file.unlink(missing_ok=True)
            snapshots.forget(catalogue, each.file)
            removed += 1
        else:
            kept.append(readable(each.file))
    erased = catalogue.erase(stopped)
    what = {"collection": wish.collection} if wish.collection and wish.key is None else {}
    audit.note(OWNER, "erase", items=deleted, snapshots=removed, **what)
    return {
        "deleted": deleted,
        "bytes": erased.bytes,
        "left": list(erased.left),
        "snapshots_removed": removed,
        "snapshots": kept,
        "seconds": erased.seconds,
    }
