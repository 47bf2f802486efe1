"""Assets: what a browser fetches beside data, kept in memory with its ETag, and compressed for who can read that."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.http.answers import matches_tag

# Bytes below which a packet holds it anyway.
WORTH = 1024
# RFC 9110 §12.4.2
_QVALUE = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


class Asset:
    """headers: what its answers carry beside type, ETag and coding."""

    def __init__(self, data: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> None:
        self._data = data
        self._media_type = media_type
        self._headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding", **(headers or {})}
        self._etag = hashlib.sha256(data).hexdigest()[:32]
        self._packed: bytes | None = None

    async def answer(self, request: Request) -> Response:
        """The asset, or 304 where the browser has it."""
        packed = accepts_gzip(request.scope) and len(self._data) > WORTH
        etag = f'"{self._etag}-gzip"' if packed else f'"{self._etag}"'
        headers = {**self._headers, "ETag": etag}
        if matches_tag(request, etag):
            return Response(status_code=304, headers=headers)
        if not packed:
            return Response(self._data, headers=headers, media_type=self._media_type)
        if self._packed is None:
            self._packed = await asyncio.to_thread(gzip.compress, self._data, 9, mtime=0)
        return Response(self._packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=self._media_type)


class Folder:
    """The files of one folder, not of those below it, as an ASGI application to mount."""

    def __init__(self, directory: Path) -> None:
        self._files = {path.name: path for path in directory.iterdir() if path.is_file()}
        self._assets: dict[str, Asset] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises HTTPException (404, 405)."""
        name = scope["path"].removeprefix(scope["root_path"]).removeprefix("/")
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET"})
        if name not in self._files:
            raise HTTPException(404)
        response = await self.asset(name).answer(Request(scope))
        await response(scope, receive, send)

    def asset(self, name: str) -> Asset:
        """Raises KeyError."""
        if name not in self._assets:
            path = self._files[name]
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            self._assets[name] = Asset(path.read_bytes(), "text/javascript" if path.suffix == ".js" else kind)
        return self._assets[name]


def accepts_gzip(scope: Scope) -> bool:
    """By Accept-Encoding: named, or meant by `*`, and weighed no less than the plain answer where that is named too."""
    weights: dict[str, float] = {}
    asked = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept-encoding")
    for each in asked.split(","):
        name, *parameters = each.split(";")
        weights[name.strip().lower()] = _weight(parameters)
    gzip_weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip_weight > 0 and gzip_weight >= weights.get("identity", 0.0)


def _weight(parameters: list[str]) -> float:
    """What `q` says, 0 to 1: 1 where it is left out, and 0 where it is none, so that a client is not surprised."""
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip().lower() == "q":
            value = value.strip()
            return float(value) if _QVALUE.fullmatch(value) else 0.0
    return 1.0
