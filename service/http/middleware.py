"""Around every request: it is counted and logged, an error becomes a problem, and early answers can be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from service.errors import ShuttingDown
from service.http.problems import problem_of
from service.metrics import Metrics

log = logging.getLogger("lookalike.http")

T = TypeVar("T")

# A client that is still sending when it is refused cannot read the answer before it has sent the rest: the rest is read
# and thrown away, up to this much and this long, and the answer is completed after it.
DRAIN_BYTES = 256 * 2**20
DRAIN_SECONDS = 15.0


class Answers:
    """ASGI around an application's router. `draining` says whether the service is shutting down."""

    def __init__(self, app: Starlette, metrics: Metrics, draining: Callable[[], bool]) -> None:
        self._app = app
        self._metrics = metrics
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served here, not {scope['type']}")
        scope["app"] = self._app
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server sends the headers of the answer alone
        started = perf_counter()
        exchange = _Exchange(receive, send)
        try:
            if self._draining() and scope["path"] != "/livez":
                raise ShuttingDown
            await self._app.router(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = 499
        except asyncio.CancelledError:
            # uvicorn ends what is still running when its grace is over; those who wait are told.
            if not self._draining() or exchange.status is not None:
                raise
            late = problem_of(ShuttingDown())
            await late.response(scope["path"])(scope, exchange.receive, exchange.send)
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 405:
                problem.headers["Allow"] = ", ".join(sorted(self._methods(scope)))
            if problem.slug == "internal":
                log.exception("%s %s failed", scope["method"], scope["path"])
            if exchange.status is not None:
                raise
            await problem.response(scope["path"])(scope, exchange.receive, exchange.send)
        finally:
            self._count(scope, exchange.status or 499, perf_counter() - started)

    def _methods(self, scope: Scope) -> set[str]:
        """Every method that some route takes on this path; the router names those of the first route alone."""
        found: set[str] = set()
        for route in self._app.router.routes:
            if route.matches(scope)[0] is not Match.NONE:
                found |= getattr(route, "methods", None) or set()
        return found

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # Only the template: ids and unknown paths would make a series each.
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.answered(scope["method"], route, status, seconds)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s %s %d %.1f ms", scope["method"], scope["path"], status, seconds * 1000)


class _Exchange:
    """One request's messages: knows whether the body was read to its end and what was answered."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._body_ended = False
        self.status: int | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_ended = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif self._refuses_early(message):
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    def _refuses_early(self, message: Message) -> bool:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        return last and not self._body_ended and self.status is not None and self.status >= 400

    async def _drain(self) -> None:
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._body_ended and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client goes away. The body must have been read to its end.

    Raises what `work` raises, ClientDisconnect.
    """
    task = asyncio.current_task()
    assert task is not None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        return await work
    except asyncio.CancelledError:
        # Cancelled by the watch alone, not by a shutdown beside it: an ordinary end of this request.
        if left and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()
