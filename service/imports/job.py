"""An import as a job: an uploaded file into a collection, from its beginning again after every restart.

What is stored already is not embedded again, so that costs reading alone; what an earlier life of the job has written
counts as written.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from index.items import Imported
from index.types import Catalogue, Collection
from service.embedding.pipeline import Pipeline
from service.fetching.fetcher import Fetcher
from service.imports import engine, sync
from service.imports.rule import same_json
from service.imports.sources.opening import holds_vectors, open_pictures
from service.imports.sources.source import Bad, Pictures, SourceError
from service.imports.sources.vectors.sieve import Block, VectorFileError
from service.imports.sources.vectors.vector_file import VectorFile, open_vectors
from service.imports.sync import MOST_REMOVED, Feed
from service.imports.tally import Tally
from service.imports.targets.catalogue_target import CatalogueTarget, known
from service.imports.targets.dry_target import DryTarget
from service.imports.targets.target import Target
from service.imports.vector_import import ahead
from service.jobs.state import Counts
from service.jobs.task import JobFailed, Stopped, Task
from service.threads import Threads

KIND = "import"
# The cosine from which on a vector is the stored one: half precision rounds away 2e-7.
SAME = 1 - 1e-6
Mode = Literal["add", "sync"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for.

    file: its name in the job's folder; sha256: of its bytes; mode: `sync` also removes what the file does not have;
    dry_run: nothing is written; max_remove_share: 0…1, of the items there are, what a sync may remove.
    """

    file: str
    sha256: str
    mode: Mode = "add"
    dry_run: bool = False
    max_remove_share: float = MOST_REMOVED

    @property
    def key(self) -> str:
        """The same for everybody who asks for the same."""
        share = self.max_remove_share if self.mode == "sync" else None
        return f"{self.sha256} {self.mode} {self.dry_run} {share}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ImportWork:
    """The work of one process. before: called once with a collection's name before the first picture goes in."""

    catalogue: Catalogue
    pipeline: Pipeline
    threads: Threads
    max_bytes: int
    before: Callable[[str], Awaitable[None]]
    fetcher: Fetcher | None = None

    async def __call__(self, task: Task) -> Mapping[str, Any]:
        """Raises JobFailed, Stopped, SourceError, VectorFileError, StorageFull, CollectionNotFound."""
        wish = Wish(**task.job.request)
        file = task.folder / wish.file
        if not file.is_file():
            raise JobFailed("not-found", "The job's upload is not here any more: send it again")
        collection = self.catalogue.get(task.job.collection)
        run = _Run(self, task, wish, collection, file)
        try:
            return await (run.vectors() if holds_vectors(file) else run.pictures())
        except (SourceError, VectorFileError) as error:
            # Where it lies is nobody's business; how it was called is.
            raise JobFailed("source-unreadable", str(error).replace(f"{task.folder}/", "")) from None


class _Run:
    """One import on its way."""

    def __init__(self, work: ImportWork, task: Task, wish: Wish, collection: Collection, file: Path) -> None:
        self._work = work
        self._task = task
        self._wish = wish
        self._collection = collection
        self._file = file
        self._feed = Feed()
        self._removed = int(task.saved.get("removed", 0))
        self._began = task.job.started_at or time.time()
        self._refused: str | None = None

    async def pictures(self) -> dict[str, Any]:
        opened = await asyncio.to_thread(open_pictures, self._file, uploaded=True)
        with contextlib.closing(opened):
            self._task.check()
            return await self._pictures(opened)

    async def _pictures(self, opened: Pictures) -> dict[str, Any]:
        work, wish = self._work, self._wish
        self._task.progress(Counts(opened.count + len(opened.bad)))
        if opened.count and not wish.dry_run:
            await work.before(self._collection.name)
        if wish.mode == "sync":
            await self._guarded(lambda feed: self._named(opened, feed))
        real = await CatalogueTarget.open(self._collection, work.pipeline, work.threads, max_bytes=work.max_bytes)
        network = await work.pipeline.networks.of_collection(self._collection)
        target: Target = DryTarget(real, network, work.pipeline) if wish.dry_run else real
        # What came over HTTP has no folder on this machine that a later one could be mistaken for.
        sources = (replace(source, root="") for source in sync.watched(opened.sources(), self._feed))
        tally = await engine.run(
            sources,
            target,
            total=opened.count,
            bad=opened.bad,
            on_progress=self._progress,
            on_bad=self._bad,
            stop=self._task.stop,
            merge=wish.mode == "add",
            since=self._began,
            fetcher=work.fetcher,
        )
        if tally.interrupted:
            raise Stopped
        self._progress(tally)
        return await self._finish(tally)

    def _named(self, opened: Pictures, feed: Feed) -> None:
        for source in opened.sources():
            feed.add(source)
            self._task.check()
        for row in opened.bad:
            feed.bad(row)

    async def vectors(self) -> dict[str, Any]:
        opened = await asyncio.to_thread(self._open_vectors)
        self._task.progress(Counts(opened.count))
        if not self._wish.dry_run:
            await self._work.before(self._collection.name)
        if self._wish.mode == "sync":
            await self._guarded(self._rows)
        tally = Tally(opened.count)
        await self._work.threads.write(self._write, opened, tally)
        return await self._finish(tally)

    def _open_vectors(self) -> VectorFile:
        opened = open_vectors(self._file)
        if opened.dim != self._collection.dim:
            raise VectorFileError(
                f"{self._file.name} holds vectors of {opened.dim} numbers, the collection {self._collection.name} of "
                f"{self._collection.dim}: send it to a collection of the model that made them"
            )
        return opened

    def _rows(self, feed: Feed) -> None:
        for block in self._open_vectors().blocks:
            self._task.check()
            feed.add_ids(block.ids)
            for row in block.bad:
                feed.bad(row)

    def _write(self, opened: VectorFile, tally: Tally) -> None:
        """Writes the blocks that are not written yet. Raises Stopped between two of them."""
        rows: Mapping[str, int] = self._task.saved.get("rows", {})
        sums = Imported(*(rows.get(name, 0) for name in ("created", "replaced", "unchanged")))
        read = 0
        for block in ahead(opened.blocks):
            self._task.check()
            self._feed.add_ids(block.ids)
            tally.failed += len(block.bad)
            for row in block.bad:
                self._bad(row)
            read += len(block.ids) + len(block.bad)
            if read > rows.get("read", 0):
                sums += self._would(block) if self._wish.dry_run else self._put(block)
                self._keep(rows={"read": read, **asdict(sums)})
            tally.created, tally.replaced, tally.unchanged = sums.created, sums.replaced, sums.unchanged
            self._progress(tally)

    def _put(self, block: Block) -> Imported:
        fingerprint = self._collection.fingerprint
        return self._collection.import_vectors(block.ids, block.vectors, block.metadata, fingerprint=fingerprint)

    def _would(self, block: Block) -> Imported:
        """What writing a block would do."""
        there = known(self._collection, block.ids)
        ids = [id for id in block.ids if id in there]
        same = 0
        if ids:
            rows = [row for row, id in enumerate(block.ids) if id in there]
            given = block.vectors[rows].astype(np.float64)
            stored = self._collection.vectors(ids)
            cosines = np.einsum("ij,ij->i", given, stored) / np.linalg.norm(given, axis=1)
            for row, id, cosine in zip(rows, ids, cosines.tolist(), strict=True):
                metadata = block.metadata[row] if block.metadata is not None else {}
                same += cosine >= SAME and there[id].sha256 is None and same_json(there[id].metadata, metadata)
        return Imported(len(block.ids) - len(ids), len(ids) - same, same)

    def _bad(self, row: Bad) -> None:
        self._feed.bad(row)
        self._task.line(row.as_json())

    def _progress(self, tally: Tally) -> None:
        self._task.progress(Counts(tally.total, tally.done, tally.unchanged, tally.failed, self._removed))

    def _keep(self, **values: Any) -> None:
        self._task.keep({**self._task.saved, **values})

    async def _guarded(self, read: Callable[[Feed], None]) -> None:
        """Refuses a feed that would remove too much, before anything is written. Raises JobFailed `sync-refused`."""
        feed = Feed()
        await asyncio.to_thread(read, feed)
        removed, count, examples = await asyncio.to_thread(self._would_go, feed)
        self._task.check()
        refused = sync.refusal(removed, count, self._wish.max_remove_share, examples)
        if refused is not None and not self._wish.dry_run:
            raise JobFailed("sync-refused", f"{refused}: nothing was changed; is it the right feed?")
        self._refused = refused

    def _would_go(self, feed: Feed) -> tuple[int, int, list[str]]:
        examples: list[str] = []
        number = 0
        for id in self._gone(feed):
            number += 1
            if len(examples) < sync.NAMED:
                examples.append(id)
        return number, self._collection.count(), examples

    def _gone(self, feed: Feed) -> Iterator[str]:
        return sync.gone(self._collection, feed, self._began, lambda: self._task.stopping)

    async def _finish(self, tally: Tally) -> dict[str, Any]:
        """Removes what the feed has not, where that was asked for; what came of it all."""
        gone: list[str] = []
        notes = ["A dry run: nothing was written or removed."] if self._wish.dry_run else []
        if self._wish.mode == "sync":
            if (doubt := self._feed.doubt) is not None:
                notes.append(f"Nothing is removed: {doubt}. See the import's errors, and send the feed again.")
            else:
                await self._work.threads.write(self._remove, tally, gone)
                self._task.check()
                notes += [f"It would be refused: {self._refused}."] if self._refused else []
        self._task.note(" ".join(notes))
        self._task.arrange(lambda line: engine.natural(line["path"]))
        self._progress(tally)
        self._keep(sequence=await self._work.threads.read(lambda: self._collection.sequence))
        return {
            "mode": self._wish.mode,
            "dry_run": self._wish.dry_run,
            "total": tally.total,
            "created": tally.created,
            "replaced": tally.replaced,
            "unchanged": tally.unchanged,
            "failed": tally.failed,
            "removed": self._removed,
            "removed_ids": gone,
        }

    def _remove(self, tally: Tally, listed: list[str]) -> None:
        batch: list[str] = []

        def remove() -> None:
            removed = len(batch) if self._wish.dry_run else self._collection.delete(batch)
            self._removed += removed
            listed.extend(batch[: max(0, sync.LISTED - len(listed))])
            batch.clear()
            self._keep(removed=self._removed)
            self._progress(tally)

        for id in self._gone(self._feed):
            batch.append(id)
            if len(batch) >= sync.BATCH:
                remove()
        if batch and not self._task.stopping:
            remove()
