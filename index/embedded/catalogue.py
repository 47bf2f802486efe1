"""A data directory opened: its one owner, its collections, and the work that goes on behind them."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import apsw

from index.embedded.collection import EmbeddedCollection
from index.embedded.erase import erase
from index.embedded.failpoints import Failpoints, NoFailpoints
from index.embedded.live.live import LiveIndex
from index.embedded.live.upkeep.policy import Policy
from index.embedded.store import collections, database, erasing, writes
from index.embedded.store.collections import Head
from index.embedded.store.directory import backup, high_water, opening, references
from index.embedded.store.directory.lock import DirectoryLock
from index.embedded.store.directory.originals import Originals
from index.embedded.store.encoding import check_name
from index.embedded.store.records import CATALOGUE, StoredRecords
from index.embedded.store.store import Store
from index.embedded.store.writer import Writer
from index.embedded.verify import verify
from index.errors import CollectionNotFound, InvalidId, StoreClosed
from index.info import CollectionInfo
from index.limits import RECALL
from index.types import Erased, Finding, Progress, Snapshot, Unclaimed

_log = logging.getLogger("lookalike.index")
_PURGE = 1_000  # items per transaction when a dropped collection is taken apart in the background
_NOTE = 10  # seconds between two looks at how far the collections are
_VACUUM = 64  # pages given back to the file system per step


class EmbeddedCatalogue:
    """`Catalogue` over one data directory. Made by `open` only."""

    def __init__(self, lock: DirectoryLock, store: Store, policy: Policy, *, indexes: bool, marking: bool) -> None:
        self._lock = lock
        self._marking = marking
        self._store = store
        self._load = partial(EmbeddedCollection, store, policy=policy, indexes=indexes)
        self.records = StoredRecords(store.writer, store.readers, lambda _: CATALOGUE)
        self._guard, self._erasing = threading.Lock(), threading.Lock()
        self._closing = threading.Event()
        self._work = threading.Event()
        with store.readers.connection() as connection:
            found = collections.heads(connection)
        _sweep_indexes(store.directory / "index", {head.id for head in found})
        self._collections = {head.name: self._load(head) for head in found}
        self._keeper = threading.Thread(target=self._keep, name="store-keeper", daemon=True)
        self._keeper.start()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        keep_originals: bool = True,
        indexes: bool = True,
        unclaimed: Unclaimed = "refuse",
        recall: float = RECALL,
        policy: Policy | None = None,
        failpoints: Failpoints | None = None,
    ) -> EmbeddedCatalogue:
        """Takes the directory's lock, creates or migrates the database, loads the collections.

        keep_originals: store uploaded bytes by sha256. indexes: False for work that never searches (snapshots,
        imports): search indexes are neither loaded nor built, and searching raises IndexNotReady. unclaimed: what
        originals mean that the database does not know. recall: that searches are to have in collections that set
        none. policy: when search indexes are built, merged, saved; with a recall of its own.
        Raises DirectoryLocked, StoreCorrupt, SchemaTooNew, StorageError.
        """
        failpoints = failpoints or NoFailpoints()
        directory = directory.resolve()
        path = directory / database.NAME
        with contextlib.ExitStack() as undo, database.translated(path):
            directory.mkdir(parents=True, exist_ok=True)
            lock = DirectoryLock(directory)
            undo.callback(lock.release)
            opening.prepare(directory)
            connection = opening.connect(directory, unclaimed)
            undo.callback(connection.close, True)
            writer = Writer(connection, path, failpoints)
            undo.callback(writer.close)
            originals = Originals(directory, failpoints, writer.stop)
            readers = database.Readers(path)
            undo.callback(readers.close)
            store = Store(
                directory=directory,
                path=path,
                writer=writer,
                readers=readers,
                originals=originals,
                keep_originals=keep_originals,
                failpoints=failpoints,
            )
            originals.recover(store.referred)
            if unclaimed == "refuse":
                opening.check(store)
                with readers.connection() as reading:
                    high_water.check(directory, collections.heads(reading))
            catalogue = cls(
                lock, store, policy or Policy(recall=recall), indexes=indexes, marking=unclaimed != "report"
            )
            undo.pop_all()
        return catalogue

    def create(self, name: str, *, model: str, fingerprint: str, dim: int) -> tuple[EmbeddedCollection, bool]:
        """The collection, and whether it was created now; one that is there is returned as it is. Raises InvalidId."""
        check_name(name)
        with self._guard:
            if name in self._collections:
                return self._collections[name], False
            insert = partial(collections.insert, name=name, model=model, fingerprint=fingerprint, dim=dim)
            made = self._load(self._store.writer.call(insert))
            self._collections[name] = made
            return made, True

    def get(self, name: str) -> EmbeddedCollection:
        """Raises CollectionNotFound."""
        if self._closing.is_set():
            raise StoreClosed("the catalogue is closed")
        found = self._collections.get(name)
        if found is None:
            raise CollectionNotFound(f"no collection {name!r}; create it first")
        return found

    def names(self) -> list[str]:
        """Sorted."""
        return sorted(self._collections)

    def infos(self) -> list[CollectionInfo]:
        """Every collection as of now, by name."""
        found = []
        for collection in list(self._collections.values()):
            with contextlib.suppress(CollectionNotFound):  # being dropped
                found.append(collection.info())
        return sorted(found, key=lambda info: info.name)

    def drop(self, name: str) -> None:
        """Removes a collection at once for every reader; its rows and files go in the background.

        Raises CollectionNotFound.
        """
        with self._guard:
            collection = self.get(name)

            def run(connection: apsw.Connection) -> None:
                collections.drop(connection, name)
                collection.dropped(True)

            try:
                self._store.writer.call(run)
            except BaseException:
                collection.dropped(False)
                raise
            del self._collections[name]
        collection.index.close(discard=True)
        self._work.set()

    def clear(
        self, name: str, *, model: str | None = None, fingerprint: str | None = None, dim: int | None = None
    ) -> None:
        """Empties a collection; with model, fingerprint and dim it belongs to that model from now on.

        Its records go, a threshold set by hand among them. Raises CollectionNotFound.
        """

        def run(connection: apsw.Connection) -> Head:
            old = collections.drop(connection, name)
            bound = model or old.model, fingerprint or old.fingerprint, dim or old.dim
            return collections.insert(connection, name, *bound, created_at=old.created_at)

        retired: list[LiveIndex] = []
        with self._guard:
            collection = self.get(name)
            self._store.writer.call(run, lambda head: retired.append(collection.rebind(head)))
        for index in retired:
            index.close(discard=True)
        self._work.set()

    def replace(self, name: str, by: str, *, kept: str, sequence: int) -> bool:
        """As `Catalogue.replace`."""
        check_name(kept)
        with self._guard:
            old, new = self.get(name), self.get(by)
            if kept in self._collections or len({name, by, kept}) < 3:
                raise InvalidId(f"there is a collection {kept!r} already")

            def applied(heads: tuple[Head, Head] | None) -> None:
                if heads is not None:
                    old.trade(new, *heads)

            done = self._store.writer.call(
                lambda connection: collections.replace(connection, name, by, kept, sequence), applied
            )
            if done is not None:
                self._collections[kept] = self._collections.pop(by)
            return done is not None

    def original(self, sha256: str) -> bytes:
        """The uploaded bytes. Raises ItemNotFound, StoreCorrupt."""
        return self._store.originals.read(sha256)

    def unclaimed(self) -> list[str]:
        """As `Catalogue.unclaimed`."""
        with self._store.readers.connection() as connection:
            known = set(references.originals(connection))
        found = sorted({sha256 for names in self._store.originals.stored() for sha256 in names} - known)
        return [sha256 for sha256 in found if not self._store.originals.busy(sha256)]

    def leave(self, hashes: Iterable[str]) -> None:
        """As `Catalogue.leave`."""
        left = list(hashes)
        self._store.writer.call(lambda connection: references.accept(connection, left))

    def snapshot(self, file: Path, *, force: bool = False, progress: Progress | None = None) -> Snapshot:
        """Writes one file that `restore` takes, while reads and writes go on. progress: bytes done, bytes in all.

        Raises SnapshotExists, StorageFull, StoreCorrupt.
        """
        made = backup.create(self._store.path, self._store.originals, file, force=force, progress=progress)
        self._store.release()  # what lost its last item meanwhile was kept
        return made

    def verify(self) -> Iterator[Finding]:
        """Reads and checks everything: one finding for each thing wrong."""
        return verify(self._store, [collection.index for collection in self._collections.values()])

    def erase(self, stopped: Callable[[], bool] = lambda: False) -> Erased:
        """As `Catalogue.erase`."""
        with self._erasing:
            indexes = [collection.index for collection in list(self._collections.values())]
            return erase(self._store, indexes, lambda: stopped() or self._closing.is_set())

    def erase_due(self) -> float | None:
        """As `Catalogue.erase_due`."""
        with self._store.readers.connection() as connection:
            return erasing.since(connection)

    def close(self) -> None:
        """Finishes what was written, gives the directory free. A second call does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._work.set()
        self._keeper.join()
        for collection in self._collections.values():
            collection.close()
        self._note()
        # The writer's connection goes last: only that one may fold the write-ahead log into the database.
        self._store.readers.close()
        self._store.writer.close()
        self._lock.release()

    def _keep(self) -> None:
        """What may wait: removing originals that were let go, checking the rows of large collections, taking dropped
        ones apart, giving space back.
        """
        with contextlib.suppress(StoreClosed):
            self._guarded(self._store.release)
            for collection in list(self._collections.values()):
                self._guarded(partial(collection.check, self._closing))
            while not self._closing.is_set():
                self._work.clear()
                self._guarded(self._purge)
                self._guarded(self._vacuum)
                for collection in list(self._collections.values()):
                    collection.index.wake()
                self._guarded(self._note)
                self._work.wait(_NOTE)

    def _note(self) -> None:
        if not self._marking:  # who only looks leaves the mark as it is
            return
        with self._store.readers.connection() as connection:
            high_water.note(self._store.directory, collections.heads(connection))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StoreClosed:
            raise
        except Exception:  # noqa: BLE001 - logged; the next round tries again
            _log.exception("background work failed; it is tried again later")

    def _purge(self) -> None:
        with self._store.readers.connection() as connection:
            more = collections.dropped(connection)
        while more and not self._closing.is_set():
            more, released = self._store.writer.call(lambda connection: writes.purge(connection, _PURGE))
            if released:
                self._store.release()

    def _vacuum(self) -> None:
        with self._store.readers.connection() as connection:
            free, pages = database.spare(connection)
        # A quarter of the file may stay free for what comes next; the rest goes back in steps too short to be felt.
        while free * 4 > pages and free > _VACUUM and not self._closing.is_set():
            self._store.writer.call(lambda connection: database.give_back(connection, _VACUUM))
            free, pages = free - _VACUUM, pages - _VACUUM


def _sweep_indexes(directory: Path, used: set[int]) -> None:
    """Removes index files of collections that a crash kept from being removed with them."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.name.isdigit() and path.is_dir() and int(path.name) not in used:
            shutil.rmtree(path, ignore_errors=True)
