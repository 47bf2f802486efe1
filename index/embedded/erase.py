"""Erasure: what was deleted before it began is afterwards in no file of the data directory, up to what it names.

Deleting takes an item away from every reader at once; its bytes stay in the room that became free. An erasure takes
apart what was dropped, removes originals that were let go, and writes anew what else holds such bytes: the database,
its write-ahead log, index files. Snapshots lie elsewhere: whoever made them knows them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

from index.embedded.live.live import LiveIndex
from index.embedded.store import erasing, writes
from index.embedded.store.directory import references
from index.embedded.store.store import Store
from index.errors import StoreClosed
from index.types import Erased

_AT_ONCE = 1_000  # items of a dropped collection per transaction
_PATIENCE = 60.0  # seconds that a snapshot or a long read is waited for
_BUILDING = 6 * 3600.0  # seconds that an index of any size is waited for
_STEP = 0.05


def erase(store: Store, indexes: Iterable[LiveIndex], stopped: Callable[[], bool]) -> Erased:
    """Erases what was deleted. Writes wait while the database is written anew. stopped: whether to give up.

    Raises StorageFull where the disk has no room for that, StorageError, StoreCorrupt, StoreClosed.
    """
    began = time.monotonic()
    before = store.path.stat().st_size
    store.writer.call(erasing.begin)
    while store.writer.call(lambda connection: writes.purge(connection, _AT_ONCE))[0]:
        if stopped():
            raise StoreClosed("erasing was given up, as the service ends; erase again")
    left = []
    if not _until(partial(_let_go, store), stopped):
        left.append("originals that a snapshot under way still reads; erase again when it is done")
    store.writer.apart(partial(erasing.rewrite, path=store.path, stopped=stopped))
    if not _until(lambda: store.writer.apart(erasing.fold), stopped):
        left.append("the write-ahead log, which a long read holds; erase again")
    stale = [index.source.head.name for index in indexes if not index.renew(_BUILDING)]
    left += [f"index files of {name} that could not be made anew; the log says why" for name in stale]
    if not left:
        store.writer.call(erasing.done)
    seconds = round(time.monotonic() - began, 3)
    return Erased(max(0, before - store.path.stat().st_size), tuple(left), seconds)


def _let_go(store: Store) -> bool:
    """Whether every original that was let go is removed; what can be is removed now."""
    store.release()
    store.writer.call(lambda _: None)  # the removal
    store.writer.call(lambda _: None)  # and its account
    with store.readers.connection() as connection:
        return not references.owed(connection)


def _until(done: Callable[[], bool], stopped: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > end or stopped():
            return False
        time.sleep(_STEP)
    return True
