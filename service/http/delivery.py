"""Delivery: what every answer carries to whoever asked: the request's id, and JSON packed where it can be read so."""

from __future__ import annotations

import asyncio
import gzip
import re
import secrets

from starlette.types import Message, Receive, Scope, Send

from service.http.assets import WORTH, accepts_gzip

Headers = list[tuple[bytes, bytes]]

PACKED = (b"application/json", b"application/problem+json")
# Of the fastest kind: a search's answer is packed in 40 µs to a third, the best kind takes three times as long for 5 %.
LEVEL = 1
# Bytes from which on it is done in a thread: some 100 µs a 64 kB, and a page of a list may have two megabytes.
LONG = 64 * 1024
REQUEST_ID = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._:@+/=-]{1,128}")


def request_id(scope: Scope) -> bytes:
    """The one that came with the request, where it is a single plain word of 128 characters at most, or a new one."""
    known: bytes | None = scope.get("request_id")
    if known is None:
        given: list[bytes] = [value for name, value in scope["headers"] if name == REQUEST_ID]
        known = given[0] if len(given) == 1 and _ID.fullmatch(given[0]) else secrets.token_hex(16).encode()
        scope["request_id"] = known
    return known


class Exchange:
    """One request's messages: knows what was answered, adds `headers` to it, and packs JSON for who can read that."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        self.receive = receive
        self.status: int | None = None
        self._scope = scope
        self._send = send
        self._headers = headers
        self._held: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": with_headers(message.get("headers", ()), self._headers)}
            if _worth_packing(message["headers"]):
                message["headers"] = with_headers(message["headers"], [(b"vary", b"Accept-Encoding")])
                if accepts_gzip(self._scope):
                    self._held = message
                    return
        elif self._held is not None:
            start, self._held = self._held, None
            if not message.get("more_body", False):
                body = await _packed(message["body"])
                kept = [each for each in start["headers"] if each[0] != b"content-length"]
                size = (b"content-length", str(len(body)).encode())
                start = {**start, "headers": [*kept, (b"content-encoding", b"gzip"), size]}
                message = {**message, "body": body}
            await self._send(start)
        await self._send(message)


async def _packed(body: bytes) -> bytes:
    if len(body) < LONG:
        return gzip.compress(body, LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)


def _worth_packing(headers: Headers) -> bool:
    found = dict(headers)
    kind = found.get(b"content-type", b"").partition(b";")[0].strip()
    return kind in PACKED and b"content-encoding" not in found and int(found.get(b"content-length", b"0")) > WORTH


def with_headers(own: Headers, more: Headers) -> Headers:
    """An answer's own headers and these; values of Vary are put together."""
    merged = [*own, *more]
    vary = [value for name, value in merged if name == b"vary"]
    if len(vary) < 2:
        return merged
    return [*(each for each in merged if each[0] != b"vary"), (b"vary", b", ".join(vary))]
