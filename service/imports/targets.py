"""Where an import goes: straight into a catalogue this process owns, or to the server that owns it. Same outcome."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from index.errors import ItemNotFound
from index.types import Collection, Entry
from models.errors import EmbeddingInvalid, ImageError
from service.cli.client import Api, RequestFailed, Service
from service.embedding.loaded import LoadedModel
from service.imports.engine import ItemGone, Known, PictureRefused, Target
from service.runtime import DEFAULT, Runtime
from service.sample.things import are_sample, catalogue

# One transaction for so many pictures, so many bytes, or so many seconds of work, whichever comes first.
BATCH_ITEMS = 64
BATCH_BYTES = 32 * 2**20
BATCH_SECONDS = 1.0

PICTURE_PROBLEMS = frozenset(
    ("unsupported-image", "image-undecodable", "image-too-large", "content-too-large", "invalid-request")
)


class CatalogueTarget:
    """Embeds here and writes batches, each in one transaction."""

    def __init__(self, runtime: Runtime, collection: Collection, network: LoadedModel) -> None:
        self._runtime = runtime
        self._collection = collection
        self._network = network
        self._waiting: list[Entry] = []
        self._bytes = 0
        self._since = time.monotonic()
        self.lanes = runtime.pipeline.concurrency
        self.max_bytes = runtime.settings.max_upload_bytes

    async def known(self) -> dict[str, Known]:
        return await self._runtime.read(_known, self._collection)

    async def put(self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any]) -> None:
        try:
            made = await self._runtime.pipeline.embed(
                data, network=self._network, thumbnail=True, bulk=True, sha256=sha256
            )
        except (ImageError, EmbeddingInvalid) as error:
            raise PictureRefused(str(error)) from None
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(Entry(id, made.vector, metadata, made.media, made.thumbnail, data))
        self._bytes += len(data)
        late = time.monotonic() - self._since >= BATCH_SECONDS
        if late or len(self._waiting) >= BATCH_ITEMS or self._bytes >= BATCH_BYTES:
            await self.finish()

    async def describe(self, id: str, metadata: Mapping[str, Any]) -> None:
        try:
            await self._runtime.write(self._collection.merge_metadata, id, metadata)
        except ItemNotFound as error:
            raise ItemGone(str(error)) from None

    async def finish(self) -> None:
        batch, self._waiting, self._bytes = self._waiting, [], 0
        if batch:
            await self._runtime.write(self._collection.upsert, batch, fingerprint=self._collection.fingerprint)


class ServerTarget:
    """PUTs every picture; the server embeds, and says when it has too much to do."""

    lanes = 8

    def __init__(self, api: Api, collection: str, max_bytes: int) -> None:
        self._api = api
        self._items = f"/v1/collections/{collection}/items"
        self.max_bytes = max_bytes

    async def known(self) -> dict[str, Known]:
        found: dict[str, Known] = {}
        async for page in self._api.pages(self._items):
            for item in page:
                image = item["image"]
                found[item["id"]] = Known(image["sha256"] if image else None, item["metadata"])
        return found

    async def put(self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any]) -> None:
        form = {"metadata": orjson.dumps(metadata).decode()}
        try:
            await self._api.call("PUT", f"{self._items}/{quote(id)}", files={"image": ("image", data)}, data=form)
        except RequestFailed as error:
            if error.slug in PICTURE_PROBLEMS:
                raise PictureRefused(str(error)) from None
            raise

    async def describe(self, id: str, metadata: Mapping[str, Any]) -> None:
        try:
            await self._api.call("PATCH", f"{self._items}/{quote(id)}", json={"metadata": metadata})
        except RequestFailed as error:
            if error.status == 404:
                raise ItemGone(str(error)) from None
            raise

    async def finish(self) -> None:
        return None


async def open_target(service: Service, collection: str) -> Target:
    """The target for a collection, which is made where there is none yet. Raises RequestFailed."""
    await service.api.call("PUT", f"/v1/collections/{quote(collection, safe='')}")
    runtime = service.runtime
    if runtime is None:
        info = await service.api.call("GET", "/v1/info")
        return ServerTarget(service.api, collection, _limit(info))
    return await here(runtime, collection)


async def make_room(api: Api, collection: str) -> bool:
    """Empties `default` where it holds nothing but the sample, whose threshold suits no photographs; whether it did."""
    if collection != DEFAULT:
        return False
    path = f"/v1/collections/{collection}"
    if not 0 < (await api.call("GET", path))["count"] <= len(catalogue()):
        return False
    async for page in api.pages(f"{path}/items"):
        if not are_sample((item["id"], item["metadata"]) for item in page):
            return False
    await api.call("DELETE", path)
    return True


async def here(runtime: Runtime, collection: str) -> CatalogueTarget:
    """The target for a collection of this process. Raises CollectionNotFound, ModelMismatch."""
    found = runtime.collection(collection)
    return CatalogueTarget(runtime, found, await runtime.pipeline.networks.of_collection(found))


def _limit(info: Mapping[str, Any]) -> int:
    """The server's own limit for one upload, in bytes."""
    return int(info["limits"]["max_upload_bytes"])


def _known(collection: Collection) -> dict[str, Known]:
    found: dict[str, Known] = {}
    cursor: str | None = None
    while True:
        page = collection.scan(limit=1000, cursor=cursor)
        for item in page.items:
            found[item.id] = Known(item.media.sha256 if item.media else None, item.metadata)
        cursor = page.next_cursor
        if cursor is None:
            return found
