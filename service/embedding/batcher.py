"""Lanes of threads turn waiting pictures into vectors: a lane takes whatever waits, never sleeps to collect a batch.

Entries whose caller has gone, or whose deadline has passed, are dropped before they cost anything; one bad picture
fails alone; a lane that dies is replaced and counted.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.embedder import Embedder
from service.errors import DeadlinePassed, ShuttingDown

Pixels = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]

# Seconds for which bulk work lets people's pictures pass; then one run of it takes its turn all the same.
GIVE_WAY = 0.5
# Seconds after a person's picture for which a lane is kept free of bulk work, where there are several.
COMPANY = 1.0

# What a lane does with a vector that it has just made; it must not raise.
After = Callable[[Vector], None]

log = logging.getLogger("lookalike.batcher")


class Network(Protocol):
    """One model as the lanes see it: `narrow` for many runs side by side, `wide` for one picture on all cores."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def narrow(self) -> Embedder: ...
    @property
    def wide(self) -> Embedder: ...


@dataclass(slots=True, eq=False)
class Waiting:
    """One picture in the queue. deadline: monotonic seconds. after: called with the vector before the caller has it."""

    network: Network
    pixels: Pixels
    future: asyncio.Future[Vector]
    loop: asyncio.AbstractEventLoop
    deadline: float = float("inf")
    after: After | None = None

    def settle(self, result: Vector | BaseException) -> None:
        """Called from a lane; harmless when the caller has gone or its loop is closed."""
        try:
            self.loop.call_soon_threadsafe(self._settle, result)
        except RuntimeError:  # the loop was closed: nobody waits any more
            log.debug("an embedding came after its event loop had closed")

    def _settle(self, result: Vector | BaseException) -> None:
        if self.future.done():
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class Line:
    """What waits, and which of it goes next. No I/O, no lock: the batcher holds its own around every call."""

    def __init__(self) -> None:
        self._live: deque[Waiting] = deque()
        self._bulk: deque[Waiting] = deque()
        self._bulk_at = 0.0  # when bulk work last had its turn, or came where there was none
        self._waited = False

    def __len__(self) -> int:
        return len(self._live) + len(self._bulk)

    def push(self, entry: Waiting, *, bulk: bool) -> None:
        (self._bulk if bulk else self._live).append(entry)

    @property
    def live(self) -> int:
        """How many of them people wait for."""
        return len(self._live)

    def take(self, most: int, now: float, *, held: bool = False) -> tuple[list[Waiting], list[Waiting]]:
        """The next batch (one network, at most `most`, people before bulk work) and what expired on the way.

        held: people are on their way, so bulk work waits, for GIVE_WAY seconds since its last turn; then it goes first.
        """
        batch: list[Waiting] = []
        expired: list[Waiting] = []
        if not self._bulk or not held or not self._waited:
            self._bulk_at, self._waited = now, bool(self._bulk)
        queues = (self._live, self._bulk)
        if held:
            overdue = now - self._bulk_at >= GIVE_WAY
            queues = (self._bulk, self._live) if overdue else (self._live, deque())
            self._bulk_at = now if overdue else self._bulk_at
        for queue in queues:
            while queue and len(batch) < most:
                entry = queue[0]
                if entry.future.cancelled():
                    queue.popleft()
                elif entry.deadline <= now:
                    expired.append(queue.popleft())
                elif batch and entry.network.fingerprint != batch[0].network.fingerprint:
                    break
                else:
                    batch.append(queue.popleft())
        return batch, expired

    def drain(self) -> list[Waiting]:
        """Everything that waits, and nothing waits any more."""
        left = [*self._live, *self._bulk]
        self._live.clear()
        self._bulk.clear()
        return left


class Batcher:
    """lanes: threads that run the network; max_batch: pictures per run, at most.

    share: a lane leaves the others their part of what waits, as lanes on cores of their own should.
    """

    def __init__(
        self,
        *,
        lanes: int,
        max_batch: int = 1,
        share: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lanes = lanes
        self.max_batch = max_batch
        self.restarts = 0
        self.runs = 0
        self.embedded = 0
        self.dropped = 0
        self.answered_at = float("-inf")  # clock of the last run that gave vectors
        self._clock = clock
        self._share = share
        self._line = Line()
        self._busy = 0
        self._people = 0
        self._seen = float("-inf")  # clock of the last person
        self._closed = False
        self._wake = threading.Condition()
        self._threads = [self._start(number) for number in range(lanes)]

    @property
    def waiting(self) -> int:
        return len(self._line)

    def submit(
        self,
        network: Network,
        pixels: Pixels,
        *,
        deadline: float = float("inf"),
        bulk: bool = False,
        after: After | None = None,
    ) -> asyncio.Future[Vector]:
        """Queues uint8 (h, w, 3); the future gives float32 (dim,), or what the network raised. For an event loop.

        after: work of a fraction of a millisecond with the vector, done in the lane where the picture ran alone.
        """
        loop = asyncio.get_running_loop()
        entry = Waiting(network, pixels, loop.create_future(), loop, deadline, after)
        with self._wake:
            if self._closed:
                raise ShuttingDown()
            self._line.push(entry, bulk=bulk)
            self._wake.notify()
        return entry.future

    @contextmanager
    def person(self) -> Iterator[None]:
        """While somebody's picture is on its way, before it is queued here too, no bulk work begins.

        For COMPANY seconds after it a lane stays free for the next one.
        """
        with self._wake:
            self._people += 1
        try:
            yield
        finally:
            with self._wake:
                self._people -= 1
                self._seen = self._clock()
                if not self._people:
                    self._wake.notify_all()

    def close(self) -> None:
        """Running pictures finish, waiting ones raise ShuttingDown. Blocks until the lanes have ended."""
        with self._wake:
            self._closed = True
            left = self._line.drain()
            self._wake.notify_all()
        for entry in left:
            entry.settle(ShuttingDown())
        for thread in self._threads:
            thread.join()

    def _start(self, number: int) -> threading.Thread:
        thread = threading.Thread(target=self._lane, args=(number,), name=f"embed-{number}", daemon=True)
        thread.start()
        return thread

    def _next(self) -> tuple[list[Waiting], bool] | None:
        """Blocks for a batch; also whether it is alone, so that it may have all cores. None: closed."""
        while True:
            with self._wake:
                if self._closed:
                    return None
                before, now = len(self._line), self._clock()
                last_lane = self._busy >= max(1, self.lanes - 1)
                held = self._people > 0 or (last_lane and now - self._seen < COMPANY)
                batch, expired = self._line.take(self._most(), now, held=held)
                self.dropped += before - len(self._line) - len(batch)
                # What is held waits for a moment in which nobody needs the cores.
                alone = self._busy == 0 and not (self._line.live if held else len(self._line))
                if batch:
                    self._busy += 1
                elif not expired:
                    self._wake.wait(GIVE_WAY if len(self._line) else None)
            for entry in expired:
                entry.settle(DeadlinePassed())
            if batch:
                return batch, alone

    def _most(self) -> int:
        free = max(1, self.lanes - self._busy)
        return min(self.max_batch, max(1, -(-len(self._line) // free))) if self._share else self.max_batch

    def _lane(self, number: int) -> None:
        batch: list[Waiting] = []
        try:
            while (taken := self._next()) is not None:
                batch, alone = taken
                try:
                    self._run(batch, alone)
                finally:
                    with self._wake:
                        self._busy -= 1
                batch = []
        except BaseException as error:
            # Only what is no Exception gets here (_run answers those): the lane cannot be trusted any more.
            log.exception("embedding lane %d died and is replaced", number)
            for entry in batch:
                entry.settle(RuntimeError(f"the embedding lane died: {type(error).__name__}"))
            with self._wake:
                self.restarts += 1
                if not self._closed:
                    self._threads[number] = self._start(number)

    def _run(self, batch: list[Waiting], alone: bool) -> None:
        network = batch[0].network
        embedder = network.wide if alone and len(batch) == 1 else network.narrow
        try:
            vectors = self._embed(embedder, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever waits
            if len(batch) == 1:
                batch[0].settle(error)
                return
            log.warning("a batch of %d failed (%s); its pictures run one by one", len(batch), error)
            for entry in batch:
                self._run([entry], False)
            return
        self.runs += 1
        self.embedded += len(batch)
        self.answered_at = self._clock()
        if len(batch) == 1 and batch[0].after is not None:
            batch[0].after(vectors[0])
        for entry, vector in zip(batch, vectors, strict=True):
            entry.settle(vector)

    def _embed(self, embedder: Embedder, batch: list[Waiting]) -> Vector:
        if len(batch) == 1:
            return embedder.embed(batch[0].pixels[None])
        return embedder.embed(np.stack([entry.pixels for entry in batch]))
