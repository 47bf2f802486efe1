"""DecoderPool: pictures are decoded in processes that can be killed, so that one bad file harms nobody else.

What will take long waits for one of all workers but one: a cheap picture never waits for expensive ones alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import ExitStack
from typing import Any

from models import errors
from models.pictures import cost
from models.pictures.image import Decoded
from models.preprocessing import Preprocessing
from service.embedding.confinement import MEASURES, Measure
from service.embedding.decoder_process import Death, Worker, WorkerDied
from service.errors import DeadlinePassed, NotReady, ShuttingDown

log = logging.getLogger("lookalike.decoder")

# A photograph of a phone takes 0.05 s as JPEG, 0.4 s as PNG.
CHEAP_SECONDS = 0.25
# The size and the scans of so many bytes are found in 0.3 ms.
LOOKED_AT_INLINE = 2**18
# After so many workers that somebody else has killed, a picture waits for better times.
MOST_KILLED = 5


class DecoderPool:
    """workers: processes; max_bytes: largest upload.

    seconds, cpu_seconds: a picture that takes longer on the clock, or of a processor, costs its worker's life.
    """

    def __init__(
        self, *, workers: int, max_bytes: int, max_pixels: int, seconds: float = 20.0, cpu_seconds: int = 10
    ) -> None:
        self.size = workers
        self.restarts = 0
        self.lacking: list[Measure] = []  # what the kernel does not have to confine a worker
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._seconds = seconds
        self._cpu_seconds = cpu_seconds
        # All workers but one: however many expensive pictures there are, the others go past them.
        self._expensive = asyncio.Semaphore(max(1, workers - 1))
        # None is a worker that could not be replaced: whoever gets it tries again.
        # The one used last comes first: its caches are warm.
        self._idle: asyncio.LifoQueue[Worker | None] = asyncio.LifoQueue()
        self._all: set[Worker] = set()
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def confinement(self) -> list[Measure]:
        """What holds the workers, as far as the kernel has it."""
        return [measure for measure in MEASURES if measure not in self.lacking]

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._all]

    async def start(self) -> None:
        """Starts all workers side by side and waits for them."""
        fresh = [self._spawn() for _ in range(self.size)]
        lacking = await asyncio.gather(*(worker.ready() for worker in fresh))
        self.lacking = lacking[0]
        if self.lacking:
            log.warning(
                "decoding processes are not confined as they could be: no %s here", " and no ".join(self.lacking)
            )
        for worker in fresh:
            self._idle.put_nowait(worker)

    def _spawn(self) -> Worker:
        worker = Worker(self._max_bytes, self._max_pixels, self._cpu_seconds)
        self._all.add(worker)
        return worker

    async def decode(
        self,
        data: bytes,
        *,
        preprocessing: Preprocessing,
        crop: tuple[float, float, float, float] | None = None,
        thumbnail: bool = False,
        deadline: float = float("inf"),
    ) -> Decoded:
        """Waits for a free worker, then for the picture.

        preprocessing: of the network that the picture is for. deadline: monotonic seconds. Raises ImageError,
        DeadlinePassed, NotReady.
        """
        if self._closed:
            raise ShuttingDown()
        lane = self._expensive if await _expected_seconds(data) > CHEAP_SECONDS else None
        worker = await self._free(lane, deadline)
        # A caller that goes away must not leave a worker with an unread answer: the task goes on and hands it back.
        task = asyncio.create_task(self._decode(worker, lane, data, preprocessing, crop, thumbnail))
        self._keep(task)
        return await asyncio.shield(task)

    async def _free(self, lane: asyncio.Semaphore | None, deadline: float) -> Worker | None:
        """A worker nobody uses, and a place in `lane`, if any. Raises DeadlinePassed, ShuttingDown."""
        left = deadline - time.monotonic()
        with ExitStack() as undo:
            try:
                async with asyncio.timeout(None if math.isinf(left) else left):
                    if lane is not None:
                        await lane.acquire()
                        undo.callback(lane.release)
                    worker = await self._idle.get()
            except TimeoutError:
                raise DeadlinePassed() from None
            if self._closed or time.monotonic() >= deadline:
                self._idle.put_nowait(worker)
                raise ShuttingDown() if self._closed else DeadlinePassed()
            undo.pop_all()
        return worker

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._running.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # read, so that an error nobody waits for is not reported as lost

    async def _decode(
        self,
        worker: Worker | None,
        lane: asyncio.Semaphore | None,
        data: bytes,
        preprocessing: Preprocessing,
        crop: tuple[float, float, float, float] | None,
        thumbnail: bool,
    ) -> Decoded:
        loop = asyncio.get_running_loop()
        deaths: list[Death] = []
        try:
            while True:
                worker = worker or await self._fresh()
                watchdog = loop.call_later(self._seconds, worker.give_up)
                try:
                    return await worker.decode(data, preprocessing, crop, thumbnail)
                except WorkerDied:
                    dead, worker = worker, None
                    deaths.append(self._discard(dead))
                    self._judge(deaths)
                finally:
                    watchdog.cancel()
        finally:
            if lane is not None:
                lane.release()
            if worker is None and not self._closed:
                self._keep(asyncio.create_task(self._refill()))
            else:
                self._idle.put_nowait(worker)

    def _judge(self, deaths: list[Death]) -> None:
        """Whether the picture is to blame for the workers it has had. Raises ImageError, NotReady."""
        if deaths[-1] is Death.LATE:
            raise errors.UndecodableImage("the picture takes too long to decode: save it again")
        if deaths[-1] is Death.SPENT:
            what = f"more than {self._cpu_seconds} seconds of processor time"
            raise errors.ImageTooLarge(f"the picture takes {what} to decode: send a smaller one")
        # A worker may have crashed before, of something else: only the second one is this picture's.
        if deaths.count(Death.CRASHED) == 2:
            raise errors.UndecodableImage("the picture crashes the decoder: save it again")
        if deaths.count(Death.KILLED) == MOST_KILLED:
            raise NotReady("Decoding processes are being killed, perhaps for want of memory; try again shortly")

    async def _refill(self) -> None:
        worker = None
        try:
            worker = await self._fresh()
        except NotReady:
            log.debug("the next picture tries to start a decoding process again")
        finally:
            self._idle.put_nowait(worker)

    def _discard(self, worker: Worker) -> Death:
        self._all.discard(worker)
        death = worker.kill()
        log.warning("decoding process %d %s and is replaced", worker.pid, death.value)
        self.restarts += 1
        return death

    async def _fresh(self) -> Worker:
        """Raises NotReady where no process can be started now."""
        if self._closed:
            raise ShuttingDown()
        worker = None
        try:
            worker = self._spawn()
            await worker.ready()
        except (OSError, TimeoutError, WorkerDied) as error:
            if worker is not None:
                self._all.discard(worker)
                worker.kill()
            log.error("no decoding process can be started: %s", error)
            raise NotReady("No picture can be decoded right now; try again shortly") from error
        return worker

    async def close(self) -> None:
        """Ends every worker; pictures in hand fail."""
        self._closed = True
        for task in list(self._running):
            task.cancel()
        for worker in self._all:
            worker.kill()
        self._all.clear()
        self._idle.put_nowait(None)  # passed on from one who waits to the next, who see that the pool is closed


async def _expected_seconds(data: bytes) -> float:
    """What decoding will take; large bodies are looked at off the event loop."""
    if len(data) <= LOOKED_AT_INLINE:
        return cost.seconds(data)
    return await asyncio.to_thread(cost.seconds, data)
