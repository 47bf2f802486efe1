"""Worker: one decoding process as the service sees it, with the mapping and the socket it shares.

Through the mapping the upload goes in, pixels and thumbnail come out. The socket carries headers, in JSON:
`{"size", "preprocessing", "crop", "thumbnail"}` in; `{"shape", "thumbnail", "width", "height", "format", "plain"}` or
`{"error", "detail"}` out.
"""

from __future__ import annotations

import asyncio
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
from enum import Enum
from typing import BinaryIO

import numpy as np
import orjson

from models import errors
from models.pictures.image import Decoded
from models.preprocessing import Preprocessing
from service.embedding.confinement import Measure

# The pixels of any Preprocessing (3 bytes each) and a thumbnail always fit, whatever the upload's size.
SMALLEST_MAPPING = 4 * 2**20
START_SECONDS = 60.0
# What an interpreter may need to find its libraries; nothing else of our environment is a decoder's business.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

ERRORS: dict[str, type[errors.ImageError]] = {
    each.__name__: each for each in (errors.UnsupportedImage, errors.UndecodableImage, errors.ImageTooLarge)
}


class Death(Enum):
    """Why a worker ended. LATE: it had its picture for too long. SPENT: the picture took too much processor time.

    KILLED: by SIGKILL, which only somebody else sends, such as a kernel without memory. CRASHED: anything else.
    """

    LATE = "took too long"
    SPENT = "used up its processor time"
    KILLED = "was killed"
    CRASHED = "crashed"


class WorkerDied(Exception):
    """The worker ended or was killed while it had a picture."""


class Worker:
    """One decoding process with its mapping and its socket. Not for two pictures at a time."""

    def __init__(self, max_bytes: int, max_pixels: int, cpu_seconds: int) -> None:
        self._late = False
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
                    str(cpu_seconds),
                ],
                pass_fds=(theirs.fileno(), file.fileno()),
                stdin=subprocess.DEVNULL,
                env={name: os.environ[name] for name in PASSED_ON if name in os.environ} | ONE_THREAD,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> list[Measure]:
        """Waits until the process has imported what it needs. Returns what the kernel lacks to confine it."""
        async with asyncio.timeout(START_SECONDS):
            said = await asyncio.get_running_loop().sock_recv(self._channel, 65536)
        if not said:
            raise WorkerDied("the decoding process ended while it started")
        lacking: list[Measure] = orjson.loads(said)
        return lacking

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
            job = {"size": size, "preprocessing": preprocessing, "crop": crop, "thumbnail": thumbnail}
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
        return Decoded(pixels, said["width"], said["height"], said["format"], webp, said["plain"])

    def give_up(self) -> None:
        """Its time is over: `decode` ends with WorkerDied."""
        self._late = True
        self._process.kill()

    def kill(self) -> Death:
        """Ends the process if it has not ended already, and says why it did."""
        self._channel.close()
        self._process.kill()
        code = self._process.wait()
        if self._late:
            return Death.LATE
        return {-signal.SIGXCPU: Death.SPENT, -signal.SIGKILL: Death.KILLED}.get(code, Death.CRASHED)


_SEQPACKET = sys.platform == "linux"


def _memory_file() -> BinaryIO:
    """A file two processes can map. Not in /dev/shm: containers have 64 MB there, and a mapping past it is SIGBUS."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("lookalike"), "w+b")
    return tempfile.TemporaryFile()
