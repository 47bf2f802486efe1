"""Pictures are decoded in worker processes that can be killed: one bad file harms nobody else.

Each worker shares one memory mapping with the service (upload in, pixels and thumbnail out) and a socket for headers:
JSON `{"size", "preprocessing", "crop", "thumbnail"}` in; `{"shape", "thumbnail", "width", "height", "format"}` or
`{"error", "detail"}` out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, BinaryIO

import numpy as np
import orjson

from models import errors
from models.pictures.image import Decoded
from models.preprocessing import Preprocessing
from service.errors import DeadlinePassed, NotReady, ShuttingDown

log = logging.getLogger("lookalike.decoder")

# The pixels of any Preprocessing (3 bytes each) and a thumbnail always fit, whatever the upload's size.
SMALLEST_MAPPING = 4 * 2**20
START_SECONDS = 60.0

ERRORS: dict[str, type[errors.ImageError]] = {
    each.__name__: each for each in (errors.UnsupportedImage, errors.UndecodableImage, errors.ImageTooLarge)
}


class WorkerDied(Exception):
    """The worker ended or was killed while it had a picture."""


class Worker:
    """One decoding process with its mapping and its socket. Not for two pictures at a time."""

    def __init__(self, max_bytes: int, max_pixels: int) -> None:
        self.late = False
        size = max(max_bytes, SMALLEST_MAPPING)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET if _SEQPACKET else socket.SOCK_STREAM)
        ours.setblocking(False)
        self._channel = ours
        with theirs, _memory_file() as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "service.embedding.decode_worker",
                    str(theirs.fileno()),
                    str(file.fileno()),
                    str(max_pixels),
                ],
                pass_fds=(theirs.fileno(), file.fileno()),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        """Waits until the process has imported what it needs."""
        async with asyncio.timeout(START_SECONDS):
            if not await asyncio.get_running_loop().sock_recv(self._channel, 16):
                raise WorkerDied("the decoding process ended while it started")

    async def decode(
        self,
        data: bytes,
        preprocessing: Preprocessing,
        crop: tuple[float, float, float, float] | None,
        thumbnail: bool,
    ) -> Decoded:
        """Raises ImageError, WorkerDied."""
        loop = asyncio.get_running_loop()
        size = len(data)
        self._memory[:size] = data
        try:
            job = {"size": size, "preprocessing": preprocessing.as_json(), "crop": crop, "thumbnail": thumbnail}
            await loop.sock_sendall(self._channel, orjson.dumps(job))
            raw = await loop.sock_recv(self._channel, 65536)
        except OSError as error:
            raise WorkerDied(str(error)) from error
        if not raw:
            raise WorkerDied("the decoding process ended")
        said = orjson.loads(raw)
        if "error" in said:
            raise ERRORS[said["error"]](said["detail"])
        shape = said["shape"]
        count = math.prod(shape)
        pixels = np.frombuffer(self._memory, np.uint8, count).reshape(shape).copy()
        webp = bytes(self._memory[count : count + said["thumbnail"]]) if said["thumbnail"] else None
        return Decoded(pixels, said["width"], said["height"], said["format"], webp)

    def give_up(self) -> None:
        """Its time is over: `decode` ends with WorkerDied."""
        self.late = True
        self._process.kill()

    def kill(self) -> None:
        self._channel.close()
        self._process.kill()
        self._process.wait()


_SEQPACKET = sys.platform == "linux"


def _memory_file() -> BinaryIO:
    """A file two processes can map. Not in /dev/shm: containers have 64 MB there, and a mapping past it is SIGBUS."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("lookalike"), "w+b")
    return tempfile.TemporaryFile()


class DecoderPool:
    """workers: processes; max_bytes: largest upload; seconds: a picture that takes longer costs its worker's life."""

    def __init__(self, *, workers: int, max_bytes: int, max_pixels: int, seconds: float = 20.0) -> None:
        self.size = workers
        self.restarts = 0
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._seconds = seconds
        # None stands for a worker that could not be replaced: whoever gets it tries again.
        # The one used last comes first: its caches are warm.
        self._idle: asyncio.LifoQueue[Worker | None] = asyncio.LifoQueue()
        self._all: set[Worker] = set()
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._all]

    async def start(self) -> None:
        """Starts all workers side by side and waits for them."""
        fresh = [self._spawn() for _ in range(self.size)]
        await asyncio.gather(*(worker.ready() for worker in fresh))
        for worker in fresh:
            self._idle.put_nowait(worker)

    def _spawn(self) -> Worker:
        worker = Worker(self._max_bytes, self._max_pixels)
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
        worker = await self._free(deadline)
        # A caller that goes away must not leave a worker with an unread answer: the task goes on and hands it back.
        task = asyncio.create_task(self._decode(worker, data, preprocessing, crop, thumbnail))
        self._keep(task)
        return await asyncio.shield(task)

    async def _free(self, deadline: float) -> Worker | None:
        """A worker nobody uses. Raises DeadlinePassed, ShuttingDown."""
        left = deadline - time.monotonic()
        try:
            async with asyncio.timeout(None if math.isinf(left) else left):
                worker = await self._idle.get()
        except TimeoutError:
            raise DeadlinePassed() from None
        if self._closed or time.monotonic() >= deadline:
            self._idle.put_nowait(worker)
            raise ShuttingDown() if self._closed else DeadlinePassed()
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
        data: bytes,
        preprocessing: Preprocessing,
        crop: tuple[float, float, float, float] | None,
        thumbnail: bool,
    ) -> Decoded:
        loop = asyncio.get_running_loop()
        died = 0
        try:
            while True:
                worker = worker or await self._fresh()
                watchdog = loop.call_later(self._seconds, worker.give_up)
                try:
                    return await worker.decode(data, preprocessing, crop, thumbnail)
                except WorkerDied as error:
                    dead, worker = worker, None
                    self._discard(dead, "took too long" if dead.late else str(error))
                    if dead.late:
                        raise errors.UndecodableImage("the picture takes too long to decode: save it again") from None
                    # It may have died before, of something else: only the second death is this picture's.
                    died += 1
                    if died == 2:
                        raise errors.UndecodableImage("the picture crashes the decoder: save it again") from None
                finally:
                    watchdog.cancel()
        finally:
            if worker is None and not self._closed:
                self._keep(asyncio.create_task(self._refill()))
            else:
                self._idle.put_nowait(worker)

    async def _refill(self) -> None:
        worker = None
        try:
            worker = await self._fresh()
        except NotReady:
            log.debug("the next picture tries to start a decoding process again")
        finally:
            self._idle.put_nowait(worker)

    def _discard(self, worker: Worker, why: str) -> None:
        log.warning("decoding process %d %s and is replaced", worker.pid, why)
        self.restarts += 1
        self._all.discard(worker)
        worker.kill()

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
