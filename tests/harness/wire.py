"""A raw connection to a server: what a test sends goes out byte for byte, what comes back is read answer by answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Answer:
    """headers: names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        """The slug of a problem; fails for any other answer."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(self.json()["type"]).rpartition("/")[2]

    def json(self) -> Any:
        return json.loads(self.body)


class Gone(Exception):
    """The server closed the connection where an answer was due."""


def request(
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    headers: Iterable[str] = (),
    chunks: int | None = None,
    host: str = "localhost",
) -> bytes:
    """A request as it goes over the wire. chunks: with chunked framing, in chunks of so many bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    if body is not None:
        lines.append("Transfer-Encoding: chunked" if chunks else f"Content-Length: {len(body)}")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    if body is None or not chunks:
        return head + (body or b"")
    framed = (body[start : start + chunks] for start in range(0, len(body), chunks))
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in framed) + b"0\r\n\r\n"


class Wire:
    """One connection to 127.0.0.1. seconds: how long any step may take."""

    def __init__(self, port: int, seconds: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), seconds)
        self._read = b""

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def send_in(self, data: bytes, size: int) -> Self:
        """In pieces of `size` bytes, each in a packet of its own."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            self.socket.sendall(data[start : start + size])
        return self

    def answer(self, *, head: bool = False) -> Answer:
        """The next answer. head: it is one to HEAD, without a body. Raises Gone."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        text, _, self._read = self._read.partition(b"\r\n\r\n")
        line, *rest = text.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
        status = int(line.split()[1])
        size = 0 if head or status in (100, 204, 304) else int(headers["content-length"])
        while len(self._read) < size:
            self._more()
        body, self._read = self._read[:size], self._read[size:]
        return Answer(status, headers, body)

    def closed(self) -> bool:
        """Whether the server ends the connection without another byte."""
        try:
            self._more()
        except Gone:
            return True
        return False

    def read(self, size: int) -> None:
        """Takes up to `size` bytes more, for later. Raises Gone."""
        self._more(size)

    def _more(self, size: int = 65536) -> None:
        try:
            data = self.socket.recv(size)
        except ConnectionError as error:
            raise Gone(str(error)) from error
        if not data:
            raise Gone(f"after {self._read[:200]!r}")
        self._read += data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


def ask(port: int, sent: bytes, *, seconds: float = 20) -> Answer:
    """One answer on a connection of its own."""
    with Wire(port, seconds) as wire:
        return wire.send(sent).answer()
