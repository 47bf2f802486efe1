"""A reader: takes sources in order, reads, hashes and looks them up in the target, one chunk ahead of those who ask.

A chunk is bounded in pictures and in bytes, so a catalogue of any size passes through the memory of two chunks.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from service.imports.roots import KEY as ROOT
from service.imports.rule import Stored
from service.imports.sources.names import spellings
from service.imports.sources.source import Source, Unreadable
from service.imports.target import Target

# Handing over to a thread costs as much as reading a small file, so several are read at a time.
CHUNK_PICTURES = 16
CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Read:
    """A source with its bytes, or why there are none; the id it gets, and what is stored under that."""

    source: Source
    id: str
    data: bytes = b""
    sha256: str = ""
    trouble: str | None = None
    slug: str = ""  # of the trouble
    stored: Stored | None = None


class Reader:
    """Lives on one event loop; `close` it."""

    def __init__(self, sources: Iterable[Source], target: Target) -> None:
        self._sources = iter(sources)
        self._target = target
        self._ready: deque[Read] = deque()
        self._ahead: asyncio.Task[list[Read]] | None = None
        self._ended = False
        self._lock = asyncio.Lock()

    async def next(self) -> Read | None:
        """The next picture in order; None after the last. Raises what the sources and the target raise."""
        if not self._ready and not self._ended:
            async with self._lock:
                if not self._ready and not self._ended:
                    coming, self._ahead = self._ahead or self._start(), None
                    self._ready.extend(await coming)
                    self._ended = not self._ready
                    self._ahead = None if self._ended else self._start()
        return self._ready.popleft() if self._ready else None

    async def close(self) -> None:
        """Waits for the thread that reads ahead; what it brings is dropped."""
        if self._ahead is not None:
            await asyncio.wait([self._ahead])

    def _start(self) -> asyncio.Task[list[Read]]:
        return asyncio.create_task(self._chunk())

    async def _chunk(self) -> list[Read]:
        chunk = await asyncio.to_thread(self._read)
        if not chunk:
            return chunk
        sources = [each.source for each in chunk]
        stored = await self._target.known([id for each in sources for id in (each.id, each.earlier) if id])
        # An item keeps its id where the rule for ids has changed since it was stored, or somebody chose another one.
        moved = [each for each in sources if each.earlier and each.id not in stored]
        paths = sorted({spelling for each in moved for spelling in spellings(each.name)})
        stored = {**(await self._target.under(paths) if paths else {}), **stored}
        return [_identified(each, stored) for each in chunk]

    def _read(self) -> list[Read]:
        chunk: list[Read] = []
        size = 0
        while len(chunk) < CHUNK_PICTURES and size < CHUNK_BYTES and (source := next(self._sources, None)) is not None:
            chunk.append(_read(source, self._target.max_bytes))
            size += len(chunk[-1].data)
        return chunk


def _identified(read: Read, stored: Mapping[str, Stored]) -> Read:
    source = read.source
    if source.id in stored or not source.earlier:
        return replace(read, stored=stored.get(source.id))
    for id in sorted(stored):
        if _is_of(source, read.sha256, stored[id]):
            return replace(read, id=id, stored=stored[id])
    return read


def _is_of(source: Source, sha256: str, stored: Stored) -> bool:
    """Whether an item came from this source, whatever its id is."""
    path, root = stored.metadata.get("path"), stored.metadata.get(ROOT, source.root)
    if not isinstance(path, str) or path not in spellings(source.name) or root != source.root:
        return False
    # Two names that are no UTF-8 can look the same.
    return "\ufffd" not in source.name or stored.sha256 == sha256


def _read(source: Source, max_bytes: int) -> Read:
    try:
        data = source.read(max_bytes)
    except Unreadable as error:
        return Read(source, source.id, trouble=str(error), slug=error.slug)
    return Read(source, source.id, data, hashlib.sha256(data).hexdigest())
