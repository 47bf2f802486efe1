"""One bad picture never stops the rest, what is done stays done, and what stands already is not embedded again.

The engine reads and judges; a `Target` knows where pictures go: into a catalogue this process owns, or to a server.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from service.imports.sources.folder import Bad, Source

# Handing over to a thread costs as much as reading a small file, so several are read at a time.
CHUNK_FILES = 16
CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Known:
    """What the collection holds under an id. sha256: None for an imported vector."""

    sha256: str | None
    metadata: Mapping[str, Any]


class Action(enum.Enum):
    """What an import does about one picture."""

    KEEP = "keep"
    DESCRIBE = "describe"  # same bytes, other metadata: no embedding
    EMBED = "embed"


class PictureRefused(Exception):
    """This one picture cannot be imported; the message is the reason, in one line."""


class ItemGone(Exception):
    """The item to describe has been deleted meanwhile."""


class Target(Protocol):
    """Where pictures go. `put` raises PictureRefused for the picture's own fault; anything else ends the import."""

    @property
    def lanes(self) -> int:
        """Pictures that may be under way at once."""
        ...

    @property
    def max_bytes(self) -> int: ...

    async def known(self) -> dict[str, Known]:
        """What stands in the collection, by id."""
        ...

    async def put(self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any]) -> None: ...

    async def describe(self, id: str, metadata: Mapping[str, Any]) -> None:
        """Merges metadata into an item's. Raises ItemGone."""
        ...

    async def finish(self) -> None:
        """Returns once everything put so far is on disk."""
        ...


@dataclass(slots=True)
class Tally:
    """An import as it goes. seconds: since it began."""

    total: int
    created: int = 0
    replaced: int = 0
    unchanged: int = 0
    bad: list[Bad] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def done(self) -> int:
        """Pictures written."""
        return self.created + self.replaced

    @property
    def handled(self) -> int:
        return self.done + self.unchanged + len(self.bad)

    @property
    def images_per_second(self) -> float:
        """Pictures written, by the whole time."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        """The summary a program reads."""
        return {
            "total": self.total,
            "done": self.done,
            "created": self.created,
            "replaced": self.replaced,
            "unchanged": self.unchanged,
            "failed": len(self.bad),
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 2),
            "interrupted": self.interrupted,
            "errors": [{"path": bad.path, "reason": bad.reason} for bad in self.bad],
        }


def judge(known: Known | None, sha256: str, metadata: Mapping[str, Any]) -> Action:
    """What to do about a picture. Keys that a person added to an item's metadata are no reason to write it again."""
    if known is None or known.sha256 != sha256:
        return Action.EMBED
    same = all(key in known.metadata and _text(known.metadata[key]) == _text(value) for key, value in metadata.items())
    return Action.KEEP if same else Action.DESCRIBE


def _text(value: Any) -> bytes:
    # As JSON, since to Python true is 1.
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def joined(known: Known | None, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a picture whose bytes changed: what a person added stays, what the import knows is brought up."""
    return {**(known.metadata if known else {}), **metadata}


async def run(
    sources: Sequence[Source],
    target: Target,
    *,
    bad: Sequence[Bad] = (),
    on_progress: Callable[[Tally], None] = lambda tally: None,
    stop: asyncio.Event | None = None,
) -> Tally:
    """Imports `sources`. bad: files already known to fail, told with the rest; on_progress: called after every picture.

    Setting `stop` ends it early: pictures under way finish, the tally says `interrupted`. Raises what `target` raises.
    """
    began = time.monotonic()
    tally = Tally(len(sources) + len(bad), bad=list(bad))
    known = await target.known()
    reader = Reader(sources, target.max_bytes)

    async def lane() -> None:
        while not (stop and stop.is_set()) and (read := await reader.next()) is not None:
            try:
                await _one(read, target, known.get(read.source.id), tally)
            except PictureRefused as error:
                tally.bad.append(Bad(read.source.metadata.get("path", read.source.id), str(error)))
            tally.seconds = time.monotonic() - began
            on_progress(tally)

    try:
        await _together([lane() for _ in range(min(target.lanes, len(sources)))])
    finally:
        await target.finish()
        tally.bad.sort(key=lambda row: row.path)
        tally.seconds = time.monotonic() - began
        tally.interrupted = tally.handled < tally.total
    return tally


async def _one(read: Read, target: Target, known: Known | None, tally: Tally) -> None:
    source = read.source
    if read.trouble is not None:
        raise PictureRefused(read.trouble)
    action = judge(known, read.sha256, source.metadata)
    if action is Action.KEEP:
        tally.unchanged += 1
        return
    if action is Action.DESCRIBE:
        try:
            await target.describe(source.id, source.metadata)
        except ItemGone:
            known, action = None, Action.EMBED
    if action is Action.EMBED:
        await target.put(source.id, read.data, read.sha256, joined(known, source.metadata))
    if known is None:
        tally.created += 1
    else:
        tally.replaced += 1


@dataclass(frozen=True, slots=True)
class Read:
    """A source with its bytes, or why there are none."""

    source: Source
    data: bytes = b""
    sha256: str = ""
    trouble: str | None = None


class Reader:
    """Reads and hashes files in a thread, one chunk ahead of those who ask. Lives on one event loop."""

    def __init__(self, sources: Sequence[Source], max_bytes: int) -> None:
        self._sources = iter(sources)
        self._max_bytes = max_bytes
        self._ready: deque[Read] = deque()
        self._ahead: asyncio.Future[list[Read]] | None = None
        self._lock = asyncio.Lock()

    async def next(self) -> Read | None:
        """The next file in order; None after the last."""
        if not self._ready:
            async with self._lock:
                if not self._ready:
                    self._ready.extend(await (self._ahead or self._start()))
                    self._ahead = self._start() if self._ready else None
        return self._ready.popleft() if self._ready else None

    def _start(self) -> asyncio.Future[list[Read]]:
        return asyncio.get_running_loop().run_in_executor(None, self._chunk)

    def _chunk(self) -> list[Read]:
        chunk: list[Read] = []
        size = 0
        while len(chunk) < CHUNK_FILES and size < CHUNK_BYTES and (source := next(self._sources, None)) is not None:
            chunk.append(_read(source, self._max_bytes))
            size += len(chunk[-1].data)
        return chunk


def _read(source: Source, max_bytes: int) -> Read:
    try:
        with open(source.file, "rb", buffering=0) as opened:  # noqa: PTH123 (a Path per picture buys nothing)
            if os.fstat(opened.fileno()).st_size > max_bytes:
                return Read(source, trouble=f"larger than {max_bytes / 2**20:.3g} MiB (LOOKALIKE_MAX_UPLOAD_BYTES)")
            data = opened.read()
    except OSError as error:
        return Read(source, trouble=f"cannot be read: {error.strerror or error}")
    return Read(source, data, hashlib.sha256(data).hexdigest())


async def _together(lanes: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of them, or the first one's error once the others have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
