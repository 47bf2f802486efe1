"""The load client costs little and says how much: requests built beforehand, raw sockets, a thread per connection."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

TIMEOUT = 60.0
_BOUNDARY = b"lookalike-load-boundary"


@dataclass(slots=True)
class Load:
    """What a run saw. latencies: seconds of each answered 200; client_cpu: the client's own share of one core."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    client_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Answered 200 per second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """Seconds; nan without an answer."""
        ranked = sorted(self.latencies)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")


def distinct(jpeg: bytes, number: int) -> bytes:
    """The same picture in other bytes (a comment behind the first marker), so that no cache knows it."""
    comment = b"%016d" % number
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def search_request(collection: str, jpeg: bytes) -> bytes:
    """A whole HTTP request for POST …/search, as a browser sends it: multipart with one picture."""
    body = (
        b'--%b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        % _BOUNDARY
        + jpeg
        + b"\r\n--%b--\r\n" % _BOUNDARY
    )
    head = (
        f"POST /v1/collections/{collection}/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get_request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


class Connection:
    """One kept-alive connection; opened anew when the server has closed it."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body. Raises OSError when the server hangs up in the middle."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.sendall(request)
            head, _, body = self._read_until(b"\r\n\r\n").partition(b"\r\n\r\n")
            fields = head.lower()
            at = fields.index(b"content-length:") + len(b"content-length:")
            length = int(fields[at:].split(b"\r\n", 1)[0])
            while len(body) < length:
                body += self._some()
        except (OSError, ValueError):
            self.close()
            raise
        if b"connection: close" in fields:
            self.close()
        return int(head[9:12]), body

    def _read_until(self, mark: bytes) -> bytes:
        read = self._some()
        while mark not in read:
            read += self._some()
        return read

    def _some(self) -> bytes:
        assert self._socket is not None
        some = self._socket.recv(1 << 16)
        if not some:
            raise ConnectionResetError("the server closed the connection")
        return some

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def closed_loop(port: int, requests: Iterable[bytes], *, connections: int, seconds: float) -> Load:
    """Each connection asks again as soon as it is answered, until the time is over or the requests are."""
    load = Load()
    waiting = iter(requests)
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def work() -> None:
        connection = Connection(port)
        while time.perf_counter() < end:
            with lock:
                request = next(waiting, None)
            if request is None:
                break
            _ask(connection, request, load, lock)
        connection.close()

    return _run(load, [threading.Thread(target=work) for _ in range(connections)])


def open_loop(port: int, requests: Sequence[bytes], *, rate: float, seconds: float, connections: int = 200) -> Load:
    """Requests arrive at `rate` per second whatever becomes of the earlier ones, until they or the time run out."""
    load = Load()
    lock = threading.Lock()
    due: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def arrive() -> None:
        started = time.perf_counter()
        for number, request in enumerate(requests[: int(rate * seconds)]):
            time.sleep(max(0.0, started + number / rate - time.perf_counter()))
            due.put(request)
        for _ in range(connections):
            due.put(None)

    def work() -> None:
        connection = Connection(port)
        while (request := due.get()) is not None:
            _ask(connection, request, load, lock)
        connection.close()

    return _run(load, [threading.Thread(target=each) for each in [arrive, *[work] * connections]])


def _ask(connection: Connection, request: bytes, load: Load, lock: threading.Lock) -> None:
    """Status 0 is a connection that broke."""
    started = time.perf_counter()
    try:
        status, _ = connection.ask(request)
    except (OSError, ValueError):
        status = 0
    took = time.perf_counter() - started
    with lock:
        load.statuses[status] += 1
        if status == 200:
            load.latencies.append(took)


def _run(load: Load, threads: Sequence[threading.Thread]) -> Load:
    cpu, started = time.process_time(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - started
    load.client_cpu = (time.process_time() - cpu) / load.seconds
    return load
