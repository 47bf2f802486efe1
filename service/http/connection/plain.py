"""Plain: the exchange that almost every client makes, read and answered without h11's state machine.

A head in HTTP/1.1 with one Host, printable headers and at most one Content-Length, and nothing that changes how its
connection goes on. Whatever else a head has, or lacks, `plain_head` leaves to h11, which knows all of HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11

Headers = list[tuple[bytes, bytes]]

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# Possessive, so that no head makes the search go back.
_HEAD = re.compile(
    rb"(GET|POST|PUT|PATCH|DELETE) (/[\x21\x22\x24-\x7e]*+) HTTP/1\.1\r\n((?:"
    + _TOKEN
    + rb":[\t\x20-\x7e]*+\r\n)*+)\r\n"
)
_LINE = re.compile(rb"([^:]++):([^\r]*+)\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ANSWER = re.compile(rb"(?:" + _TOKEN + rb": [\t\x20-\x7e\x80-\xff]*+\r\n)*+")
# What says how a connection goes on, or that a body is framed otherwise.
_OTHERWISE = frozenset({b"transfer-encoding", b"connection", b"upgrade", b"expect", b"keep-alive", b"te", b"trailer"})
_NO_BODY = frozenset({204, 304})
_END = h11.EndOfMessage()


@dataclass(frozen=True, slots=True)
class PlainHead:
    """method, target: as sent; headers: names in lower case, values without space around them; length: the body's."""

    method: bytes
    target: bytes
    headers: Headers
    length: int


def plain_head(head: bytes) -> PlainHead | None:
    """A head that ends with its empty line, where it is plain; None for all others, also for those that are no HTTP."""
    found = _HEAD.fullmatch(head)
    if found is None:
        return None
    headers = [(name.lower(), value.strip(b" \t")) for name, value in _LINE.findall(found[3])]
    known = dict(headers)
    if len(known) != len(headers) and not _once(headers, b"host", b"content-length"):
        return None
    if b"host" not in known or not _OTHERWISE.isdisjoint(known):
        if known.get(b"connection", b"").lower() != b"keep-alive" or b"host" not in known:
            return None
        if not (_OTHERWISE - {b"connection"}).isdisjoint(known) or not _once(headers, b"connection"):
            return None
    length = known.get(b"content-length", b"0")
    return PlainHead(found[1], found[2], headers, int(length)) if _LENGTH.fullmatch(length) else None


def _once(headers: Headers, *names: bytes) -> bool:
    """Whether each of these headers is there once at most."""
    return all(sum(each == name for each, _ in headers) <= 1 for name in names)


class Plain:
    """One exchange behind a plain head, with as much of `h11.Connection` as its reader uses. length: of the body."""

    they_are_waiting_for_100_continue = False

    def __init__(self, length: int) -> None:
        self._left = length
        self._held = b""
        self._read = False
        self._sent: int | None = None  # bytes of the answer that are still due; None before it, and for chunks
        self._chunked = False
        self._close = False
        self._done = False

    # ---- the request ----

    @property
    def their_state(self) -> type[Any]:
        return h11.DONE if self._read else h11.SEND_BODY

    @property
    def trailing_data(self) -> tuple[bytes, bool]:
        return self._held, False

    def receive_data(self, data: bytes) -> None:
        self._held = self._held + data if self._held else data

    def next_event(self) -> h11.Event | type[h11.NEED_DATA]:
        """`h11.Data`, then `h11.EndOfMessage`; `h11.NEED_DATA` where more has to come."""
        if self._left:
            if not self._held:
                return h11.NEED_DATA
            data, self._held = self._held[: self._left], self._held[self._left :]
            self._left -= len(data)
            return h11.Data(data=data)
        self._read = True
        return _END

    # ---- the answer ----

    def proceed(self) -> bytes:
        """Nobody waits to be asked for the body."""
        return b""

    @property
    def our_state(self) -> type[Any]:
        if not self._done:
            return h11.SEND_BODY
        return h11.MUST_CLOSE if self._close else h11.DONE

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The head of an answer: chunked where it has a body whose length is not told. Raises LocalProtocolError."""
        lines = [b"%b: %b\r\n" % each for each in headers]
        for name, value in headers:
            lowered = name.lower()
            if lowered == b"content-length":
                self._sent = int(value)
            elif lowered == b"connection" and value.lower() == b"close":
                self._close = True
        if status in _NO_BODY:
            self._sent = 0
        elif self._sent is None:
            self._chunked = True
            lines.append(b"Transfer-Encoding: chunked\r\n")
        said = b"".join(lines)
        if not _ANSWER.fullmatch(said):
            raise h11.LocalProtocolError("an answer's header is not well-formed")
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, REASONS.get(status, b""), said)

    def piece(self, data: bytes) -> bytes:
        """Some of the answer's body. Raises LocalProtocolError for more of it than was announced."""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        assert self._sent is not None
        self._sent -= len(data)
        if self._sent < 0:
            raise h11.LocalProtocolError("the answer is longer than its Content-Length")
        return data

    def finish(self) -> bytes:
        """The end of the answer. Raises LocalProtocolError where some of it is missing."""
        if self._sent:
            raise h11.LocalProtocolError("the answer is shorter than its Content-Length")
        self._done = True
        return b"0\r\n\r\n" if self._chunked else b""


class Careful(h11.Connection):
    """Any other exchange: h11's, with the same words for the answer."""

    def proceed(self) -> bytes:
        """Asks for the body that the client holds back."""
        none: Headers = []
        return self.send(h11.InformationalResponse(status_code=100, headers=none, reason=b"Continue")) or b""

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The head of an answer. Raises LocalProtocolError."""
        reason = REASONS.get(status, b"")
        return self.send(h11.Response(status_code=status, headers=list(headers), reason=reason)) or b""

    def piece(self, data: bytes) -> bytes:
        """Some of the answer's body. Raises LocalProtocolError."""
        return self.send(h11.Data(data=data)) or b""

    def finish(self) -> bytes:
        """The end of the answer. Raises LocalProtocolError."""
        return self.send(h11.EndOfMessage()) or b""
