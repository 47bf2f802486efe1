"""Head: a request's line and headers, found in what a client sends and read by h11, which is strict about them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

import h11

from service.http.connection.plain import Careful, Headers, Plain, plain_head
from service.http.problems import Problem

# Bytes of one head, line ends included, and its header lines: what Node (16 kB) or nginx (32 kB) take, and more.
HEADER_BYTES = 64 * 1024
HEADER_COUNT = 256
# Bytes of empty lines that a client may send ahead of a request (RFC 9112 §2.2 asks to ignore one).
BLANK_BYTES = 64

_END = re.compile(rb"\n\r?\n")
_FOREIGN = re.compile(rb"[\x80-\xff]")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def malformed(detail: str) -> Problem:
    return Problem("malformed-http", detail)


@dataclass(frozen=True, slots=True)
class Head:
    """One request's head. conn: reads the body next; headers: their names in lower case.

    path: unquoted; raw_path: as sent; query: without its question mark.
    """

    conn: Careful | Plain
    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    headers: list[tuple[bytes, bytes]]


class HeadReader:
    """Takes heads out of a connection's bytes. One per connection; `start` it anew for every request."""

    def __init__(self) -> None:
        self._searched = 0
        self._blank = 0

    def start(self) -> None:
        self._searched = self._blank = 0

    def take(self, buffer: bytearray) -> Head | None:
        """Removes a whole head from the front of `buffer`; None while it is not all there.

        Raises Problem `malformed-http`: no HTTP, or more than HEADER_BYTES or HEADER_COUNT of it.
        """
        while buffer and buffer[0] in b"\r\n":
            del buffer[:1]
            self._blank += 1
            if self._blank > BLANK_BYTES:
                raise malformed("The request begins with too many empty lines.")
        if not buffer:
            return None
        if not 0x20 < buffer[0] < 0x7F:
            raise malformed("This is not HTTP; https is not spoken here.")
        found = _END.search(buffer, max(0, self._searched - 2))
        if (found.end() if found else len(buffer)) > HEADER_BYTES:
            raise malformed(f"The request's headers are longer than {HEADER_BYTES} bytes.")
        if found is None:
            self._searched = len(buffer)
            return None
        head = bytes(buffer[: found.end()])
        del buffer[: found.end()]
        if head.count(b"\n") > HEADER_COUNT + 2:
            raise malformed(f"The request has more than {HEADER_COUNT} headers.")
        return read_head(head)


def read_head(head: bytes) -> Head:
    """Reads a head that ends with its empty line. Raises Problem `malformed-http`."""
    plain = plain_head(head)
    if plain is not None:
        return _head(Plain(plain.length), plain.method, plain.target, b"1.1", plain.headers)
    line, newline, rest = head.partition(b"\n")
    # Browsers quote what is not ASCII in an address; command lines do not.
    line = _FOREIGN.sub(lambda found: b"%%%02X" % found[0][0], line)
    conn = Careful(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
    conn.receive_data(line + newline + rest)
    try:
        request = conn.next_event()
    except h11.RemoteProtocolError as error:
        raise malformed(_said(str(error))) from None
    if not isinstance(request, h11.Request):
        raise malformed("The request is not well-formed HTTP.")
    if not request.http_version.startswith(b"1."):
        raise malformed("HTTP/1.1 and HTTP/1.0 are spoken here.")
    headers = [(name.lower(), value) for name, value in request.headers]
    names = [name for name, _ in headers]
    if b"transfer-encoding" in names and b"content-length" in names:
        # A proxy that believes the other one would see other requests than we do (RFC 9112 §6.1).
        raise malformed("Send Content-Length or Transfer-Encoding, not both.")
    if request.http_version == b"1.0" and b"transfer-encoding" in names:
        raise malformed("HTTP/1.0 has no Transfer-Encoding.")
    target = request.target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute:
        # The target's host counts, whatever Host says (RFC 9112 §3.2.2).
        headers = [(b"host", absolute[1]), *(each for each in headers if each[0] != b"host")]
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    return _head(conn, request.method, target.partition(b"#")[0], request.http_version, headers)


def _head(conn: Careful | Plain, method: bytes, target: bytes, version: bytes, headers: Headers) -> Head:
    raw_path, _, query = target.partition(b"?")
    path = unquote(raw_path.decode("ascii"))
    return Head(conn, method.decode("ascii"), path, raw_path, query, version.decode("ascii"), headers)


def _said(reason: str) -> str:
    """What h11 says where it does not repeat the request."""
    known = {
        "Missing mandatory Host: header": "The request has no Host header.",
        "Found multiple Host: headers": "The request has more than one Host header.",
        "conflicting Content-Length headers": "The request has two Content-Lengths.",
        "bad Content-Length": "The Content-Length is no number.",
        "Only Transfer-Encoding: chunked is supported": "The only Transfer-Encoding read here is chunked.",
    }
    return known.get(reason, "The request is not well-formed HTTP.")
