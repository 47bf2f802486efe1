"""A reader: takes sources in order, reads, hashes and looks them up in the target, one chunk ahead of those who ask.

A chunk is bounded in pictures and in bytes, and so is what is being fetched: a catalogue of any size passes through.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from service.fetching.fetcher import Fetcher, Validators
from service.imports.reading.arriving import Arriving
from service.imports.reading.read import Read, read
from service.imports.roots import KEY as ROOT
from service.imports.rule import Stored
from service.imports.sources.names import spellings
from service.imports.sources.source import Source
from service.imports.targets.target import Target

# Handing over to a thread costs as much as reading a small file, so several are read at a time.
CHUNK_PICTURES = 16
CHUNK_BYTES = 16 * 2**20


class Reader:
    """Lives on one event loop; `close` it. fetcher: for sources with an address, None where nothing may be fetched."""

    def __init__(self, sources: Iterable[Source], target: Target, fetcher: Fetcher | None = None) -> None:
        self._sources = iter(sources)
        self._target = target
        self._ready: deque[Read] = deque()
        self._ahead: asyncio.Task[list[tuple[Read, Validators | None]]] | None = None
        self._arriving = Arriving(fetcher, target.max_bytes)
        self._ended = False
        self._lock = asyncio.Lock()

    async def next(self) -> Read | None:
        """The next picture, in order, those that are fetched as they arrive; None after the last.

        Raises what the sources and the target raise.
        """
        while not self._ready:
            async with self._lock:
                if not self._ready:
                    if self._ended and not self._arriving.tasks:
                        return None
                    await self._more()
        return self._ready.popleft()

    async def again(self, read: Read) -> Read:
        """A picture that was not sent because it had not changed, with its bytes or why there are none."""
        return await self._arriving.again(read)

    async def close(self) -> None:
        """Waits for the thread that reads ahead; what it brings is dropped."""
        if self._ahead is not None:
            await asyncio.wait([self._ahead])
        await self._arriving.close()

    async def _more(self) -> None:
        """Waits until there is a picture more, or the sources have ended."""
        if self._ahead is None and not self._ended and not self._arriving.full:
            self._ahead = asyncio.create_task(self._chunk())
        ahead = [self._ahead] if self._ahead is not None else []
        await asyncio.wait([*ahead, *self._arriving.tasks], return_when=asyncio.FIRST_COMPLETED)
        if self._ahead is not None and self._ahead.done():
            done, self._ahead = self._ahead, None
            chunk = done.result()
            self._ended = not chunk
            for read, known in chunk:
                if read.source.url or self._arriving.waits_for(read.id):
                    self._arriving.expect(read, known)
                else:
                    self._ready.append(read)
            if chunk and not self._arriving.full:
                self._ahead = asyncio.create_task(self._chunk())
        self._ready.extend(self._arriving.taken())

    async def _chunk(self) -> list[tuple[Read, Validators | None]]:
        """The next pictures, with what was said of those to be fetched when the stored ones were."""
        chunk = await asyncio.to_thread(self._read)
        if not chunk:
            return []
        sources = [each.source for each in chunk]
        stored = await self._target.known([id for each in sources for id in (each.id, each.earlier) if id])
        # An item keeps its id where the rule for ids has changed since it was stored, or somebody chose another one.
        moved = [each for each in sources if each.earlier and each.id not in stored]
        paths = sorted({spelling for each in moved for spelling in spellings(each.name)})
        stored = {**(await self._target.under(paths) if paths else {}), **stored}
        found = [_identified(each, stored) for each in chunk]
        urls = [each.source.url for each in found if each.source.url and each.stored is not None]
        said = await self._target.versions(urls) if urls else {}
        return [(each, _of_stored(each, said)) for each in found]

    def _read(self) -> list[Read]:
        chunk: list[Read] = []
        size = 0
        while len(chunk) < CHUNK_PICTURES and size < CHUNK_BYTES and (source := next(self._sources, None)) is not None:
            chunk.append(read(source, self._target.max_bytes))
            size += len(chunk[-1].data)
        return chunk


def _of_stored(read: Read, said: Mapping[str, Validators]) -> Validators | None:
    """What was said of the very picture that is stored."""
    known = said.get(read.source.url)
    return known if known is not None and read.stored and read.stored.sha256 == known.sha256 else None


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
