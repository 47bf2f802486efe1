"""The target inside a process that owns the catalogue: it embeds here and writes batches, each in one transaction.

A batch is whole or absent, so a process that is killed leaves nothing half-written.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from index.errors import ItemNotFound
from index.filters import parse_filter
from index.items import Entry
from index.types import Collection
from models.errors import EmbeddingInvalid, ImageError, ImageTooLarge, UnsupportedImage
from service.embedding.loaded import LoadedModel
from service.embedding.pipeline import Pipeline
from service.fetching.fetcher import Validators
from service.imports.rule import Stored, stored_of
from service.imports.targets.target import ItemGone, PictureRefused
from service.imports.targets.versions import remember, versions
from service.threads import Threads

# One transaction for so many pictures, so many bytes, or so many seconds of work, whichever comes first.
BATCH_ITEMS = 64
BATCH_BYTES = 32 * 2**20
BATCH_SECONDS = 1.0


class CatalogueTarget:
    """`Target` over a collection of this process. Made by `open`."""

    def __init__(
        self, collection: Collection, network: LoadedModel, pipeline: Pipeline, threads: Threads, max_bytes: int
    ) -> None:
        self._collection = collection
        self._network = network
        self._pipeline = pipeline
        self._threads = threads
        self._waiting: list[Entry] = []
        self._bytes = 0
        self._since = time.monotonic()
        self._writing = asyncio.Lock()
        self.written = 0
        self.lanes = pipeline.concurrency
        self.max_bytes = max_bytes

    @classmethod
    async def open(cls, collection: Collection, pipeline: Pipeline, threads: Threads, *, max_bytes: int) -> Self:
        """Loads the collection's model where it is not loaded. max_bytes: of one picture. Raises ModelMismatch."""
        return cls(collection, await pipeline.networks.of_collection(collection), pipeline, threads, max_bytes)

    async def known(self, ids: Sequence[str]) -> Mapping[str, Stored]:
        return await self._threads.read(known, self._collection, ids)

    async def under(self, paths: Sequence[str]) -> Mapping[str, Stored]:
        return await self._threads.read(under, self._collection, paths)

    async def put(self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any]) -> None:
        try:
            made = await self._pipeline.embed(data, network=self._network, thumbnail=True, bulk=True, sha256=sha256)
        except (ImageError, EmbeddingInvalid) as error:
            raise PictureRefused(str(error), slug_of(error)) from None
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(Entry(id, made.vector, metadata, made.media, made.thumbnail, data))
        self._bytes += len(data)
        late = time.monotonic() - self._since >= BATCH_SECONDS
        if late or len(self._waiting) >= BATCH_ITEMS or self._bytes >= BATCH_BYTES:
            await self.finish()

    async def describe(
        self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any], *, keep: bool = True
    ) -> None:
        try:
            write = self._collection.replace_metadata
            await self._threads.write(write, id, metadata, sha256=sha256, keep=keep)
        except ItemNotFound as error:
            raise ItemGone(str(error)) from None

    async def versions(self, urls: Sequence[str]) -> Mapping[str, Validators]:
        return await self._threads.read(versions, self._collection, urls)

    async def remember(self, url: str, said: Validators) -> None:
        await self._threads.write(remember, self._collection, {url: said})

    async def finish(self) -> None:
        async with self._writing:  # a batch that another lane has begun to write counts as put so far
            batch, self._waiting, self._bytes = self._waiting, [], 0
            if batch:
                await self._threads.write(self._collection.upsert, batch, fingerprint=self._collection.fingerprint)
                self.written += len(batch)


def slug_of(error: ImageError | EmbeddingInvalid) -> str:
    """Of `REASONS`, as the HTTP API calls it."""
    if isinstance(error, UnsupportedImage):
        return "unsupported-image"
    return "image-too-large" if isinstance(error, ImageTooLarge) else "image-undecodable"


def known(collection: Collection, ids: Sequence[str]) -> dict[str, Stored]:
    """What a collection holds under these ids, by id; those without an item are left out. Blocks."""
    found = {id: stored_of(item) for id, item in collection.whole(ids).items()}
    for id in ids:
        if id not in found:
            # Damaged on disk: the metadata is kept, the picture counts as another one and is written anew.
            with contextlib.suppress(ItemNotFound):
                found[id] = Stored(None, collection.get(id).metadata)
    return found


def under(collection: Collection, paths: Sequence[str]) -> dict[str, Stored]:
    """Items whose metadata has one of these as `path`, by id; at most 1,000. Blocks."""
    filter = parse_filter({"must": [{"key": "path", "any": list(paths)}]})
    if not paths or collection.count(filter) == 0:  # a count is cheap, a page has to find what passes
        return {}
    return {item.id: stored_of(item) for item in collection.scan(limit=1000, filter=filter).items}
