"""A shop's server of pictures for tests: what each path answers is given, and what was asked is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. promised: bytes said to come, where fewer do; pause: seconds before it; drip: between its bytes."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    promised: int | None = None
    pause: float = 0.0
    drip: float = 0.0


@dataclass(slots=True)
class Shop:
    """replies: by path, one after the other, the last one for ever. asked: path and headers of every request."""

    port: int
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def shop() -> Iterator[Shop]:
    """A server on a free port of this machine. A reply with an ETag is 304 for who has it."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:
                there.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                there.at_once += 1
                there.most_at_once = max(there.most_at_once, there.at_once)
                left = there.replies.get(self.path, [Reply(status=404)])
                reply = left.pop(0) if len(left) > 1 else left[0]
            try:
                self.answer(reply)
            except OSError:
                self.close_connection = True
            finally:
                with lock:
                    there.at_once -= 1

        def answer(self, reply: Reply) -> None:
            time.sleep(reply.pause)
            etag, modified = reply.headers.get("ETag"), reply.headers.get("Last-Modified")
            same = (etag and self.headers.get("If-None-Match") == etag) or (
                modified and self.headers.get("If-Modified-Since") == modified
            )
            self.send_response(304 if same else reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if not same:
                self.send_header("Content-Length", str(reply.promised or len(reply.body)))
            self.end_headers()
            for byte in () if same or not reply.drip else reply.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(reply.drip)
            if not same and not reply.drip:
                self.wfile.write(reply.body)
            if reply.promised is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    there = Shop(server.server_address[1])
    running = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    running.start()
    try:
        yield there
    finally:
        server.shutdown()
        server.server_close()
        running.join()
