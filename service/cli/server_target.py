"""The target beside a running server: every picture is PUT there, and the server embeds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import orjson

from service.cli.client import Api, RequestFailed
from service.fetching.fetcher import Validators
from service.imports.rule import Stored
from service.imports.targets.target import ItemGone, PictureRefused

# Problems that a picture is to blame for; any other ends the import.
PICTURE_PROBLEMS = frozenset(
    ("unsupported-image", "image-undecodable", "image-too-large", "content-too-large", "invalid-request")
)


class ServerTarget:
    """`Target` over HTTP. Made by `open`."""

    lanes = 8

    def __init__(self, api: Api, collection: str, max_bytes: int) -> None:
        self._api = api
        self._collection = collection
        self.max_bytes = max_bytes
        self.written = 0

    @classmethod
    async def open(cls, api: Api, collection: str) -> ServerTarget:
        """Asks the server for its limit. Raises RequestFailed."""
        info = await api.call("GET", "/v1/info")
        return cls(api, collection, int(info["limits"]["max_upload_bytes"]))

    async def known(self, ids: Sequence[str]) -> Mapping[str, Stored]:
        return await self._items("/admin/known", ids=list(ids))

    async def under(self, paths: Sequence[str]) -> Mapping[str, Stored]:
        return await self._items("/admin/under", paths=list(paths))

    async def _items(self, path: str, **wanted: list[str]) -> dict[str, Stored]:
        found = await self._api.call("POST", path, json={"collection": self._collection, **wanted})
        return {id: Stored(each["sha256"], each["metadata"]) for id, each in found["items"].items()}

    async def put(self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any]) -> None:
        await self._send(id, data, metadata)
        self.written += 1

    async def _send(self, id: str, data: bytes, metadata: Mapping[str, Any]) -> None:
        path = f"/v1/collections/{self._collection}/items/{quote(id)}"
        form = {"metadata": orjson.dumps(metadata).decode()}
        try:
            await self._api.call("PUT", path, files={"image": ("image", data)}, data=form)
        except RequestFailed as error:
            if error.slug in PICTURE_PROBLEMS:
                raise PictureRefused(str(error), error.slug) from None
            raise

    async def describe(
        self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any], *, keep: bool = True
    ) -> None:
        if not data:
            raise ItemGone(id)  # it was not fetched, and goes along
        # The server embeds nothing where the picture is the same, and knows best whether it still is.
        await self._send(id, data, metadata)

    async def versions(self, urls: Sequence[str]) -> Mapping[str, Validators]:
        asked = {"collection": self._collection, "urls": list(urls)}
        found = await self._api.call("POST", "/admin/versions", json=asked)
        return {url: Validators(**said) for url, said in found["versions"].items()}

    async def remember(self, url: str, said: Validators) -> None:
        await self._api.call(
            "POST", "/admin/remember", json={"collection": self._collection, "url": url, "said": asdict(said)}
        )

    async def finish(self) -> None:
        return None
