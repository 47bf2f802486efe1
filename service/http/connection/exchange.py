"""Exchange: one request and its answer as ASGI has it, in pieces that wait for whoever reads them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Scope

from service.http.connection.head import Head
from service.http.connection.plain import REASONS
from service.http.problems import Problem

if TYPE_CHECKING:
    from service.http.connection.protocol import Connection

log = logging.getLogger("lookalike.http")

# Bytes of an answer that are handed to the socket at once, and of a body that wait for the application.
PIECE = 64 * 1024
CLOSE = (b"connection", b"close")


class Exchange:
    """conn: the state of this exchange alone. default_headers: what the server adds to every answer."""

    def __init__(
        self, line: Connection, head: Head, scope: Scope, default_headers: Sequence[tuple[bytes, bytes]]
    ) -> None:
        self.conn = head.conn
        self.scope = scope
        self.body = bytearray()
        self.body_ended = False
        self.started = False
        self.complete = False
        self.gone = False  # nobody is there to read an answer
        self.left = False  # the client sends nothing more: it has gone, or closed its side
        self.close = False  # the connection ends with this answer
        self.pending = 0  # bytes of the answer that the application has made and the socket has not been given
        self.arrived = asyncio.Event()
        self._line = line
        self._default_headers = default_headers
        self._head = b""
        self._handed_over = False  # the application has the end of the body

    async def run(self, app: ASGIApp) -> None:
        """Has the application answer. An answer that it does not complete ends the connection."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._line.abort()  # the server is ending, and so is this task
        except Exception:
            log.exception("%s %s: the answer broke off", self.scope["method"], self.scope["path"])
            self._line.abort()
        else:
            if not self.complete and not self.gone:
                self._line.abort()

    async def receive(self) -> Message:
        if self.conn.they_are_waiting_for_100_continue and not self.started:
            self._write(self.conn.proceed())
        while not (self.gone or self.complete):
            if self.body or (self.body_ended and not self._handed_over):
                self._handed_over = self.body_ended
                body = bytes(self.body)
                self.body.clear()
                return {"type": "http.request", "body": body, "more_body": not self.body_ended}
            if self.left:
                break
            self._line.read_on()
            self.arrived.clear()
            await self.arrived.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.gone:
            return
        if message["type"] == "http.response.start":
            headers = [*self._default_headers, *message.get("headers", ())]
            if self.close or self.conn.they_are_waiting_for_100_continue:
                headers.append(CLOSE)
            self._head = self.conn.begin(message["status"], headers)
            self.started = True
            return
        await self._send_body(message.get("body", b""))
        if not message.get("more_body", False) and not self.gone:
            self._write(self.conn.finish())
            self.complete = True
            self.arrived.set()
            self._line.answered()

    async def _send_body(self, body: bytes) -> None:
        if self.scope["method"] == "HEAD":
            body = b""
        view = memoryview(body)
        for start in range(0, max(1, len(body)), PIECE):
            self.pending = len(body) - start
            await self._line.writable()
            if self.gone:
                break
            self._write(self.conn.piece(bytes(view[start : start + PIECE])))
        self.pending = 0

    def _write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self._line.write(data)

    def end(self) -> None:
        """The connection is gone."""
        self.gone = True
        self.arrived.set()


def refusal(problem: Problem, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A whole answer that needs no application."""
    body = problem.details("/").encoded()
    lines = [
        b"HTTP/1.1 %d %b" % (problem.status, REASONS[problem.status]),
        *(b"%b: %b" % each for each in headers),
        *(f"{name.lower()}: {value}".encode("latin-1") for name, value in problem.headers.items()),
        b"content-type: application/problem+json",
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
