"""`lookalike serve`: takes the data directory, loads the model, listens; ends with everything acknowledged on disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import uvicorn

from index.errors import StoreError
from service import erasing, owner
from service.access.first import FirstKeyError, first_key
from service.access.keys import Keys
from service.http.app import create_app, needs_key
from service.http.bodies.body import remove_incoming
from service.http.connection.connections import Connections, limit_of_descriptors
from service.http.connection.protocol import PATIENCE, Connection
from service.logs import configure_logging
from service.runtime import Runtime
from service.settings import Settings, SettingsError

log = logging.getLogger("lookalike.server")

Background = Callable[[Runtime], Awaitable[None]]

# Running requests may finish for this long after SIGTERM; those still waiting then get `not-ready`.
GRACE_SECONDS = 10
# Whatever still runs then (a long rewrite of the database, a training) is cut off: it is safe from any kill.
LAST_SECONDS = 19.0
# Seconds between two looks at whether what was deleted is to be erased.
ERASE_LOOK = 600.0


def serve(settings: Settings, *, background: Sequence[Background] = (), warnings: Sequence[str] = ()) -> None:
    """Serves until SIGINT or SIGTERM. background: work that starts once the server answers, and ends with it.

    Raises SettingsError (the address), and what Runtime.open raises.
    """
    configure_logging(settings)
    for line in warnings:
        log.warning(line)
    # uvloop where it is: the event loop carries the uploads.
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, background))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(settings: Settings, background: Sequence[Background]) -> None:
    listener = _listen(settings.host, settings.port)
    with listener:
        runtime = await Runtime.open(settings)
        remove_incoming(settings.data_dir)
        try:
            check_keys(Keys(runtime.catalogue.records), settings)
            await _answer(runtime, listener, background)
        finally:
            await runtime.close()


def check_keys(keys: Keys, settings: Settings) -> None:
    """Makes the first key where one is asked for. Raises SettingsError where anybody on the network would get in."""
    file = settings.bootstrap_key_file
    try:
        if file is not None and first_key(keys, file, time.time()) is not None:
            log.info("The first admin key is the one in %s", file)
    except FirstKeyError as error:
        raise SettingsError(str(error)) from error
    if needs_key(settings) and not keys.all():
        raise SettingsError(
            f"{settings.host} is reached from other machines, and there is no key: make one with `lookalike keys "
            "create --scope admin`, or name a file for it in LOOKALIKE_BOOTSTRAP_KEY_FILE; LOOKALIKE_INSECURE=true "
            "serves everybody who can connect"
        )


def _listen(host: str, port: int) -> socket.socket:
    """Binds early, so that a taken port is refused before a model is loaded; it listens once all is loaded."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); set LOOKALIKE_PORT"
        ) from error
    listener.set_inheritable(False)
    return listener


class Server(uvicorn.Server):
    """Calls `on_start` once connections are answered, `on_end` at the first signal; a second one ends the process."""

    def __init__(
        self,
        config: uvicorn.Config,
        house: Connections,
        *,
        on_start: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._house = house
        self._on_start = on_start
        self._on_end = on_end

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again once it is done, which would end the process before the store is closed.
        loop = asyncio.get_running_loop()
        ends = (signal.SIGINT, signal.SIGTERM)
        for each in ends:
            loop.add_signal_handler(each, self._end, each)
        try:
            yield
        finally:
            for each in ends:
                loop.remove_signal_handler(each)

    def _end(self, number: signal.Signals) -> None:
        if self.should_exit:
            # What was acknowledged is on disk, as after any kill.
            log.warning("Second %s: ending at once", number.name)
            os._exit(128 + number)
        self.should_exit = True
        end_within(LAST_SECONDS, number)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # uvicorn ticks ten times a second
            self._house.tick(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_end()
        await super().shutdown(sockets)


def end_within(seconds: float, number: signal.Signals) -> None:
    """Ends this process after so many seconds, where it has not ended by itself."""

    def end() -> None:
        log.warning("Still not done %.0f s after %s: ending at once", seconds, number.name)
        os._exit(128 + number)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


async def _answer(runtime: Runtime, listener: socket.socket, background: Sequence[Background]) -> None:
    settings = runtime.settings
    port = listener.getsockname()[1]
    token = owner.new_token()
    tasks: list[asyncio.Task[None]] = []

    def started() -> None:
        owner.write_note(settings.data_dir, owner.local_url(settings.host, port), token)
        default = runtime.model
        log.info(
            "Lookalike %s answers on %s (%s %s on %s, by %s, %d cores)",
            version("lookalike"),
            owner.local_url(settings.host, port),
            default.artefact.name,
            default.precision,
            default.providers[0],
            default.runtime,
            runtime.cores,
        )
        tasks.extend(asyncio.create_task(_guarded(work, runtime)) for work in (_go_on, _erase_in_time, *background))

    def ending() -> None:
        log.info("Shutting down")
        owner.remove_note(settings.data_dir)
        runtime.draining = True
        runtime.jobs.stop()
        for task in tasks:
            task.cancel()

    house = Connections(limit_of_descriptors())
    house.publish(runtime.metrics)
    app = create_app(runtime, admin_token=token)
    patience = min(settings.request_timeout, PATIENCE)
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=cast(Any, partial(Connection, house=house, patience=patience, carried=app.headers)),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    await Server(config, house, on_start=started, on_end=ending).serve(sockets=[listener])
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)


async def _go_on(runtime: Runtime) -> None:
    """Jobs that an earlier process left go on."""
    await runtime.jobs.start()


async def _erase_in_time(runtime: Runtime) -> None:
    """What was deleted is erased within LOOKALIKE_ERASE_DAYS, whether or not anybody asks for it."""
    while True:
        await asyncio.sleep(ERASE_LOOK)
        try:
            since = await runtime.read(runtime.catalogue.erase_due)
            if not erasing.due(since, runtime.settings.erase_days, time.time()):
                continue
            erased = await runtime.write(runtime.catalogue.erase, lambda: runtime.draining)
            left = "; left: " + "; ".join(erased.left) if erased.left else ""
            log.info("what was deleted is erased, in %.1f s%s", erased.seconds, left)
        except StoreError as error:
            log.warning("erasing is tried again: %s", error)


async def _guarded(work: Background, runtime: Runtime) -> None:
    """A background import that fails leaves a line in the log; the service goes on."""
    try:
        await work(runtime)
    except Exception:
        log.exception("background work failed; the service goes on")
