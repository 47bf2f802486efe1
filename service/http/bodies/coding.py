"""Content codings: a body that was compressed on its way is read as what it was before, in bounded steps."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from starlette.requests import Request

from service.http.problems import Problem

# Bytes that one step of decompression makes at most: about a millisecond.
STEP = 2**18
# Members of one gzip body; a block-wise writer makes one for each 64 kB.
MAX_MEMBERS = 4096


class Decoder(Protocol):
    """Turns the pieces of a coded body into pieces of the body."""

    def feed(self, piece: bytes) -> Iterator[bytes]: ...

    def end(self) -> None:
        """Raises `invalid-request` where the coded body is not complete."""


class Identity:
    """Nothing was done to the body."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        yield piece

    def end(self) -> None:
        return


class Deflated:
    """gzip (RFC 1952, several members too) and deflate (RFC 1950; without its wrapper too, as some clients send it)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._gzip = name != "deflate"
        self._held = b""
        self._members = 0
        self._inflate: zlib._Decompress | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Raises `invalid-request`."""
        try:
            yield from self._feed(piece)
        except zlib.error:
            raise self._broken() from None

    def _feed(self, piece: bytes) -> Iterator[bytes]:
        data = self._held + piece
        self._held = b""
        while data:
            if self._inflate is None or self._inflate.eof:
                if len(data) < 2:
                    self._held = data
                    return
                self._inflate = self._open(data)
            made = self._inflate.decompress(data, STEP)
            while made:
                yield made
                # A full step may leave output inside zlib although all input is taken.
                made = self._inflate.decompress(self._inflate.unconsumed_tail, STEP) if len(made) == STEP else b""
            data = self._inflate.unused_data

    def end(self) -> None:
        if self._held or self._inflate is None or not self._inflate.eof:
            raise self._broken()

    def _open(self, data: bytes) -> zlib._Decompress:
        """A decompressor for what these bytes begin: the body, or one more member of it."""
        self._members += 1
        if self._members > (MAX_MEMBERS if self._gzip else 1):
            raise self._broken()
        if self._gzip:
            return zlib.decompressobj(31)
        wrapped = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.decompressobj(15 if wrapped else -15)

    def _broken(self) -> Problem:
        return Problem("invalid-request", f"The body is not complete, valid {self._name}, as Content-Encoding says")


def decoder_of(request: Request) -> Decoder:
    """What undoes the request's Content-Encoding. Raises `unsupported-media-type`, naming the coding."""
    names = [
        name
        for value in request.headers.getlist("content-encoding")
        for each in value.split(",")
        if (name := each.strip().lower()) not in ("", "identity")
    ]
    if not names:
        return Identity()
    if len(names) == 1 and names[0] in ("gzip", "x-gzip", "deflate"):
        return Deflated(names[0])
    shown = ", ".join(name for name in names)[:60]
    shown = "".join(each if each.isprintable() else "?" for each in shown)
    raise Problem(
        "unsupported-media-type",
        f"Content-Encoding {shown} is not decoded here; send the body as it is, or with gzip or deflate",
        headers={"Accept-Encoding": "gzip, deflate"},
    )
