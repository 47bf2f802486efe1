"""Connection: HTTP/1.1 on one socket. Everything a client sends, or does not read, is counted by size, number and time.

h11 reads heads, chunks and trailers, one h11 connection per exchange; what follows a request waits unparsed until its
turn. A request's Upgrade is ignored: nothing else is spoken here.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Sequence
from typing import Any, cast

import h11
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.http.connection.connections import Connections
from service.http.connection.exchange import PIECE, Exchange, refusal
from service.http.connection.head import Head, HeadReader, malformed
from service.http.connection.taking import Taking
from service.http.problems import Problem

# Bytes of an answer from which on the memory of all answers is looked at.
LARGE = 2**20
# Seconds at most for a head, and for a reader under the least speed; REQUEST_TIMEOUT may say less.
PATIENCE = 30.0
# Seconds that an idle connection is kept for its next request.
IDLE_SECONDS = 75.0
# An early answer lets the client read it: what it still sends is read and thrown away, up to this much and this long.
DRAIN_BYTES = 256 * 2**20
DRAIN_SECONDS = 15.0
# Seconds without a byte after which a closing connection is not waited for.
LINGER_SECONDS = 2.0
# Chunks of a body: so many, and one more for each so many bytes. Each one costs some 10 µs.
CHUNKS = 65_536
CHUNK_BYTES = 64
# Events that one turn of the event loop reads at most.
TURN = 512
# Bytes of later requests that are taken in while one is answered.
AHEAD_BYTES = 64 * 1024


class Phase(enum.Enum):
    HEAD = enum.auto()  # waits for a request's head
    EXCHANGE = enum.auto()  # the application has the request
    DRAIN = enum.auto()  # answered; the rest of its body is read and thrown away
    LINGER = enum.auto()  # closing; whatever comes is thrown away until the client closes too


class Connection(asyncio.Protocol):
    """One client. Made by uvicorn for each socket; `house` holds all of them.

    patience: seconds for a head to be whole, and for a client that hardly reads its answer. carried: the headers that
    every answer to a request has.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        house: Connections,
        patience: float,
        carried: Callable[[Scope], Sequence[tuple[bytes, bytes]]],
    ) -> None:
        self._carried = carried
        self._app = config.loaded_app
        self._state = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._house = house
        self._patience = patience
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._ends: dict[str, Any] = {}
        self._buffer = bytearray()
        self._heads = HeadReader()
        self._exchange: Exchange | None = None
        self._phase = Phase.HEAD
        self._since = self._loop.time()  # of the phase
        self._first = True
        self._thrown = 0  # bytes thrown away in DRAIN or LINGER
        self._thrown_at = 0.0
        self._chunks = self._body_bytes = 0
        self._paused = False
        self._pumping = False
        self._closing = False  # no further request
        self._taking = Taking(-1, self._since)
        self._writable = asyncio.Event()
        self._writable.set()

    # ---- asyncio ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own protocols
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self._taking = Taking(transport.get_extra_info("socket").fileno(), self._loop.time())
        self._ends = {"client": _address(peer), "server": _address(own)}
        if self._house.admit(self, self._loop.time()):
            return
        if self._house.beyond:
            self.abort()
        else:
            self._refuse(Problem("overloaded", "Too many connections; try again shortly", headers={"Retry-After": "2"}))

    def connection_lost(self, exc: Exception | None) -> None:
        self._house.discard(self)
        self._state.connections.discard(self)
        if self._exchange is not None:
            self._exchange.end()
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.LINGER:
            self._throw(len(data))
            return
        if self._phase is Phase.HEAD and not self._buffer:
            self._since = self._loop.time()  # of this head, however long the connection was idle before
        self._buffer += data
        self._pump()

    def eof_received(self) -> bool:
        """Whether the connection stays open for an answer: to a request that is whole."""
        exchange = self._exchange
        if exchange is None or self._phase is not Phase.EXCHANGE or not exchange.body_ended:
            return False
        exchange.left = exchange.close = True
        exchange.arrived.set()
        return True

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ---- uvicorn ----

    def shutdown(self) -> None:
        """The server ends: no further request is taken."""
        self._closing = True
        if self._exchange is not None and self._phase is Phase.EXCHANGE:
            self._exchange.close = True
        else:
            self._transport.close()

    # ---- what an exchange asks for ----

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._taking.written += len(data)
            self._transport.write(data)

    async def writable(self) -> None:
        if not self._writable.is_set():
            if self.unsent > LARGE:
                self._house.relieve(self._loop.time())
            await self._writable.wait()

    def read_on(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def answered(self) -> None:
        self._state.total_requests += 1
        exchange = self._exchange
        assert exchange is not None
        if self._transport.is_closing():
            return
        if exchange.body_ended:
            self._next()
        elif exchange.conn.our_state is not h11.DONE or self._closing:
            self._close()
        else:
            self._enter(Phase.DRAIN)
            self.read_on()
            self._pump()

    def abort(self) -> None:
        self._transport.abort()

    # ---- what the house asks for ----

    @property
    def idle_since(self) -> float | None:
        """Since when it waits for a request, by the event loop's clock; None while one is under way."""
        return self._since if self._phase is Phase.HEAD else None

    @property
    def moved_at(self) -> float:
        """When the client last took something of an answer."""
        return self._taking.moved_at

    @property
    def unsent(self) -> int:
        """Bytes of an answer that the process holds for the client."""
        waiting = self._exchange.pending if self._exchange is not None else 0
        return waiting + self._transport.get_write_buffer_size()

    def spare(self) -> None:
        """Closes an idle connection."""
        self._transport.abort() if self._buffer else self._transport.close()

    def tick(self, now: float) -> None:
        """Ends what has taken too long."""
        if self._taking.stuck(self._transport.get_write_buffer_size(), now, self._patience):
            self._house.aborted += 1
            self.abort()
            return
        age = now - self._since
        if self._phase is Phase.HEAD:
            if self._buffer or self._first:
                if age > self._patience:
                    self._late() if self._buffer else self._transport.close()
            elif age > IDLE_SECONDS:
                self._transport.close()
        elif self._phase is Phase.DRAIN:
            if age > DRAIN_SECONDS or self._thrown > DRAIN_BYTES:
                self._close()
        elif self._phase is Phase.LINGER and not self.unsent:
            still = now - max(self._thrown_at, self._since, self._taking.moved_at)
            if still > LINGER_SECONDS or age > DRAIN_SECONDS or self._thrown > DRAIN_BYTES:
                self._transport.close()

    # ---- reading ----

    def _pump(self) -> None:
        """Reads as far as it may now."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self._transport.is_closing():
                if self._phase is Phase.HEAD:
                    head = self._heads.take(self._buffer)
                    if head is None:
                        return
                    self._begin(head)
                elif self._phase is Phase.LINGER:
                    self._throw(len(self._buffer))
                    self._buffer.clear()
                    return
                elif self._exchange is not None and not self._exchange.body_ended:
                    if not self._read_body(self._exchange):
                        return
                else:
                    if len(self._buffer) > AHEAD_BYTES:
                        self._pause()
                    return
        except Problem as problem:
            self._refuse(problem)
        finally:
            self._pumping = False

    def _begin(self, head: Head) -> None:
        self._first = False
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            "scheme": "http",
            "method": head.method,
            "root_path": "",
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": head.headers,
            "state": {},
            **self._ends,
        }
        self._chunks = self._body_bytes = 0
        self._exchange = exchange = Exchange(self, head, scope, self._state.default_headers)
        exchange.close = self._closing
        self._enter(Phase.EXCHANGE)
        self._read_body(exchange)  # so that a request without a body is whole from the start
        task = self._loop.create_task(exchange.run(self._app))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def _read_body(self, exchange: Exchange) -> bool:
        """Gives h11 what has come; whether the body is whole. Raises Problem `malformed-http`."""
        if self._buffer:
            exchange.conn.receive_data(bytes(self._buffer))
            self._buffer.clear()
        for _ in range(TURN):
            try:
                event = exchange.conn.next_event()
            except h11.RemoteProtocolError:
                raise malformed("The request's body is not framed as its headers say.") from None
            if isinstance(event, h11.Data):
                self._take(exchange, event)
            elif isinstance(event, h11.EndOfMessage):
                exchange.body_ended = True
                exchange.arrived.set()
                self._buffer += exchange.conn.trailing_data[0]
                if self._phase is Phase.DRAIN:
                    self._next()
                return True
            else:
                return False
        # There is more to read, and others wait for their turn.
        self._pause()
        self._loop.call_soon(self._go_on)
        return False

    def _go_on(self) -> None:
        if self._exchange is not None and len(self._exchange.body) <= PIECE:
            self.read_on()
        self._pump()

    def _take(self, exchange: Exchange, event: h11.Data) -> None:
        self._chunks += event.chunk_start
        self._body_bytes += len(event.data)
        if self._chunks > CHUNKS + self._body_bytes // CHUNK_BYTES:
            raise malformed("The request's body comes in too many chunks that are too small.")
        if self._phase is Phase.DRAIN:
            self._thrown += len(event.data)
            return
        exchange.body += event.data
        exchange.arrived.set()
        if len(exchange.body) > PIECE:
            self._pause()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    # ---- from one request to the next, and to the end ----

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._since = self._loop.time()
        self._thrown = 0

    def _next(self) -> None:
        """The exchange is over, both ways."""
        exchange = self._exchange
        assert exchange is not None
        over = exchange.close or self._closing or exchange.conn.our_state is not h11.DONE
        if over or exchange.conn.their_state is not h11.DONE:
            self._close()
            return
        self._exchange = None
        self._heads.start()
        self._enter(Phase.HEAD)
        self.read_on()
        self._pump()

    def _close(self) -> None:
        """Ends our side; what the client still sends is thrown away, so that it can read the answer."""
        if self._transport.is_closing() or self._phase is Phase.LINGER:
            return
        left = self._exchange is not None and self._exchange.left
        self._enter(Phase.LINGER)
        self._buffer.clear()
        if left or self._closing:
            self._transport.close()
            return
        self._transport.write_eof()
        self.read_on()

    def _throw(self, size: int) -> None:
        self._thrown += size
        self._thrown_at = self._loop.time()
        if self._thrown > DRAIN_BYTES:
            self.abort()

    def _late(self) -> None:
        self._refuse(Problem("timeout", "The request's headers did not arrive in time"))

    def _refuse(self, problem: Problem) -> None:
        """Answers in place of the application, unless that has begun to, and closes."""
        exchange = self._exchange
        asked: Scope = {"headers": []}  # whose answer this is, as far as it is known
        if exchange is not None and self._phase is Phase.EXCHANGE:
            asked = exchange.scope
            begun = exchange.started
            exchange.end()
            if begun:
                self.abort()
                return
        if self._phase is not Phase.DRAIN:
            self.write(refusal(problem, [*self._state.default_headers, *self._carried(asked)]))
        self._close()


def _address(name: Any) -> tuple[str, int] | None:
    """A socket's name as ASGI has it."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
