"""What arrives: searches by upload, product pages, a shop's mix with writes, searches beside an import."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from benchmarks.load.arrivals import Ask
from benchmarks.load.pool import Picture, Pool
from benchmarks.load.target import Target, Unfit

WRITES = 0.05
PAGES = 0.75  # of the mix: product pages; the rest but the writes are searches
IMPORTED = 200  # pictures in the archive that is imported beside searches
SEARCH, SIMILAR, PUT = "search", "similar_items", "put_item"
_BOUNDARY = "lookalike-load-boundary"


def form(name: str, filename: str, media_type: str, data: bytes) -> tuple[bytes, str]:
    """A multipart body with one file, and its media type."""
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={_BOUNDARY}"


@dataclass(slots=True)
class Visitors:
    """Makes requests. written: collection that writes and imports go to, so that no catalogue is changed."""

    target: Target
    pool: Pool
    ids: list[str]
    collection: str
    written: str
    rng: random.Random
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(time.time_ns()))

    def upload(self) -> Ask:
        picture = self.pool.pick(self.rng)
        body, media_type = form("image", "a", picture.media_type, self._other(picture))
        path = f"/v1/collections/{self.collection}/search"
        return Ask(SEARCH, picture.kind, self.target.request("POST", path, body, media_type))

    def page(self) -> Ask:
        id = quote(self.rng.choice(self.ids), safe="")
        return Ask(SIMILAR, "", self.target.request("GET", f"/v1/collections/{self.collection}/items/{id}/similar"))

    def put(self) -> Ask:
        picture = self.pool.pick(self.rng)
        body, media_type = form("image", "a", picture.media_type, self._other(picture))
        path = f"/v1/collections/{self.written}/items/load-{self.rng.randrange(200)}"
        return Ask(PUT, picture.kind, self.target.request("PUT", path, body, media_type))

    def mix(self) -> Ask:
        chance = self.rng.random()
        if chance < WRITES:
            return self.put()
        return self.page() if chance < WRITES + PAGES else self.upload()

    def _other(self, picture: Picture) -> bytes:
        """The picture in bytes that no cache has seen: every decoder leaves alone what comes behind the end."""
        return picture.data + b"%020d" % next(self._numbers)

    def start_import(self) -> str:
        """The path of the job. Raises Unfit."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for number in range(IMPORTED):
                picture = self.pool.by_kind["400 px jpeg"][number % len(self.pool.by_kind["400 px jpeg"])]
                archive.writestr(f"import-{number}.jpg", self._other(picture))
        body, media_type = form("file", "load.zip", "application/zip", packed.getvalue())
        request = self.target.request("POST", f"/v1/collections/{self.written}/imports", body, media_type)
        status, answer = self._ask(request)
        if status != 202:
            raise Unfit(f"{self.target.url} takes no import (status {status}): give a key that may write")
        return f"/v1/collections/{self.written}/imports/{json.loads(answer)['id']}"

    def make_collection(self) -> None:
        """Raises Unfit where it is refused."""
        status, _ = self._ask(self.target.request("PUT", f"/v1/collections/{self.written}", b"{}", "application/json"))
        if status not in (200, 201):
            raise Unfit(
                f"{self.target.url} makes no collection (status {status}): give a key that may, in LOOKALIKE_LOAD_KEY"
            )

    def remove_collection(self) -> None:
        """What was written goes again; a service that is gone by now keeps it."""
        with contextlib.suppress(Unfit):
            self._ask(self.target.request("DELETE", f"/v1/collections/{self.written}"))

    def _ask(self, request: bytes) -> tuple[int, bytes]:
        connection = self.target.connection()
        try:
            return connection.ask(request)
        except (OSError, ValueError):
            raise Unfit(f"{self.target.url} hung up in the middle of a request: look at its log") from None
        finally:
            connection.close()


def makers(visitors: Visitors) -> dict[str, Callable[[], Ask]]:
    """By scenario."""
    return {"upload": visitors.upload, "similar": visitors.page, "mix": visitors.mix, "import": visitors.upload}
