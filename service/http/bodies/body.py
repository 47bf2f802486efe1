"""A request's body: read under a byte cap and at a least pace, whole into memory or part by part to disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from collections.abc import Collection as AbstractCollection
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from starlette.requests import ClientDisconnect, Request

from index.errors import StorageFull
from service.http.admission import Room
from service.http.bodies.coding import decoder_of
from service.http.bodies.forms import FormReader, suffix_of
from service.http.connection.pace import Pace
from service.http.problems import Problem

# 32 vectors of 2048 dimensions are 65,536 numbers; a million tiny values would hold the event loop for seconds.
MAX_JSON_VALUES = 150_000
# Seconds between two looks at how a body comes.
LOOK = 0.5
# Bytes that go to disk at once.
WRITE_BYTES = 2**20
# How a file system says that it takes no more.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def size_text(size: int) -> str:
    """A number of bytes as people read it, never more than it is: 20971520 → 20.9 MB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size * 10 // unit / 10:g} {name}"
    return f"{size} bytes"


def too_large(limit: int) -> Problem:
    return Problem(
        "content-too-large", f"The body is larger than the {size_text(limit)} allowed here; send a smaller file"
    )


def too_slow() -> Problem:
    return Problem("timeout", "The body came too slowly, or stopped; send it again, or a smaller one")


async def pieces(request: Request, limit: int, patience: float, room: Room | None = None) -> AsyncIterator[bytes]:
    """The body's pieces as they arrive, without its content coding: at most `limit` bytes on the wire and decoded.

    patience: seconds that a body may pause where nobody else needs the room. Raises content-too-large, timeout,
    unsupported-media-type (a coding), invalid-request (not what the coding says), ClientDisconnect.
    """
    decoder = decoder_of(request)
    announced = request.headers.get("content-length")
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise too_large(limit)
    pace = Pace(time.monotonic())
    wire = made = 0
    while True:
        try:
            async with asyncio.timeout(LOOK):
                message = await request.receive()
        except TimeoutError:
            message = {"type": "http.request", "body": b"", "more_body": True}
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        now = time.monotonic()
        moving = pace if room is None else room.pace
        moving.add(len(piece), now)
        wire += len(piece)
        if wire > limit:
            raise too_large(limit)
        for decoded in decoder.feed(piece) if piece else ():
            made += len(decoded)
            if made > limit:
                raise too_large(limit)
            yield decoded
        if not message.get("more_body", False):
            decoder.end()
            return
        crowded = room is not None and room.crowded
        if (room is not None and room.lost) or moving.too_slow(now, alone=not crowded, patience=patience):
            raise too_slow()


async def read_body(request: Request, limit: int, patience: float, room: Room) -> bytes:
    """The whole body, counted in `room`. Raises what `pieces` raises, and Overloaded where no room comes free."""
    async for piece in pieces(request, limit, patience, room):
        await room.add(piece)
    if room.lost:
        raise too_slow()
    room.receiving = False
    return room.pieces[0] if len(room.pieces) == 1 else b"".join(room.pieces)


class Upload:
    """A form whose file parts lie on disk. files: name of the part → file; fields: name → text.

    names: part → what the sender called the file; sha256: part → of its bytes; whole_sha256: of the whole body, where
    that was asked for. In lower-case hex.
    """

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        self.fields: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.sha256: dict[str, str] = {}
        self.whole_sha256 = ""


async def to_file(
    request: Request,
    directory: Path,
    limit: int,
    patience: float,
    *,
    files: AbstractCollection[str],
    fields: AbstractCollection[str],
    whole: bool = False,
) -> Upload:
    """Reads multipart/form-data whose file parts may be larger than memory: they go into `directory` as they come.

    A file keeps the suffix of the name it was sent under. limit: bytes of the whole body; whole: its digest is made
    too. What is in `directory` when this raises is the caller's to remove. Raises what `pieces` raises,
    `invalid-request`, StorageFull, OSError.
    """
    upload = Upload()
    digests: dict[IO[bytes], Any] = {}
    body = hashlib.sha256()
    open_files: dict[str, IO[bytes]] = {}
    waiting: list[tuple[IO[bytes], bytes]] = []
    held = 0

    def sink(name: str, filename: str, data: bytes) -> None:
        nonlocal held
        if name not in open_files:
            suffix = suffix_of(filename)
            file = tempfile.NamedTemporaryFile(dir=directory, prefix=f"{name}-", suffix=suffix, delete=False)  # noqa: SIM115
            open_files[name] = file
            digests[file] = hashlib.sha256()
            upload.files[name] = Path(file.name)
            upload.names[name] = filename
        waiting.append((open_files[name], data))
        held += len(data)

    def write() -> None:
        nonlocal held
        for file, data in waiting:
            file.write(data)
            digests[file].update(data)
        waiting.clear()
        held = 0

    reader = FormReader(request.headers.get("content-type", ""), files=files, fields=fields, sink=sink)
    try:
        async for piece in pieces(request, limit, patience):
            reader.feed(piece)
            if whole:
                body.update(piece)
            if held >= WRITE_BYTES:
                await asyncio.to_thread(write)
        upload.fields = reader.end().fields
        await asyncio.to_thread(write)
        for file in open_files.values():
            file.flush()
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull("The disk has no room for the file; nothing of it was kept") from None
        raise
    finally:
        for file in open_files.values():
            with contextlib.suppress(OSError):  # what a full disk has not taken; told above
                file.close()
    upload.sha256 = {name: digests[file].hexdigest() for name, file in open_files.items()}
    upload.whole_sha256 = body.hexdigest()
    return upload


# Folder of the data directory for uploads that are on their way, and how each one's own folder in it begins.
INCOMING = "incoming"
UPLOAD = "upload-"


@contextmanager
def incoming(data_dir: Path) -> Iterator[Path]:
    """An empty folder below the data directory, removed at the end with all that is in it."""
    parent = data_dir / INCOMING
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=UPLOAD) as folder:
        yield Path(folder)


def remove_incoming(data_dir: Path) -> None:
    """Removes uploads that a killed process left behind. Only for the directory's owner."""
    for folder in (data_dir / INCOMING).glob(f"{UPLOAD}*"):
        shutil.rmtree(folder, ignore_errors=True)


def media_type(request: Request) -> str:
    """The Content-Type without parameters, lower-case."""
    return request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
