"""Around every request: who may ask, what it is counted as, and every error as a problem."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from service.errors import ShuttingDown
from service.http.delivery import REQUEST_ID, Exchange, request_id
from service.http.door import Door, Headers
from service.http.problems import problem_of
from service.metrics import Metrics

log = logging.getLogger("lookalike.http")

T = TypeVar("T")

# What is counted under its own name: any word may be a method, and each would be a series.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NOSNIFF = (b"x-content-type-options", b"nosniff")


class Answers:
    """ASGI around an application's router.

    draining: whether the service is shutting down; root: the path prefix under which a proxy shows the service, which
    it may leave in or take off.
    """

    def __init__(
        self, app: Starlette, metrics: Metrics, draining: Callable[[], bool], *, door: Door, root: str = ""
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._draining = draining
        self._door = door
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served here, not {scope['type']}")
        path = self._inside(scope["path"])
        scope["path"], scope["root_path"] = self._root + path, self._root
        scope["app"] = self._app
        headers = self.headers(scope)
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server sends the headers of the answer alone
        started = perf_counter()
        exchange = Exchange(scope, receive, send, headers)
        bound = bind_contextvars(request_id=request_id(scope).decode())
        try:
            await self._answer(scope, path, exchange)
        finally:
            self._count(scope, exchange.status or 499, perf_counter() - started)
            reset_contextvars(**bound)

    def headers(self, scope: Scope) -> Headers:
        """What every answer carries, also one that the connection gives in place of the application."""
        return [NOSNIFF, (REQUEST_ID, request_id(scope)), *self._door.headers(scope)]

    def _inside(self, path: str) -> str:
        """The path below the prefix."""
        if self._root and (path == self._root or path.startswith(self._root + "/")):
            return path.removeprefix(self._root) or "/"
        return path

    async def _answer(self, scope: Scope, path: str, exchange: Exchange) -> None:
        try:
            preflight = self._door.check(scope, path)
            if preflight is not None:
                await preflight(scope, exchange.receive, exchange.send)
                return
            if self._draining() and path != "/livez":
                raise ShuttingDown
            await self._app.router(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = 499
        except asyncio.CancelledError:
            # uvicorn ends what is still running when its grace is over; those who wait get an answer.
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
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.answered(method, route, status, seconds)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s %s %d %.1f ms", scope["method"], scope["path"], status, seconds * 1000)


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
