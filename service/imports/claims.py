"""Claims: which picture of an import has which id. A refused picture takes none; the first accepted one keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.imports.targets.target import PictureRefused


class Claims:
    """Lives on one event loop. Takes some 100 bytes for each picture of an import."""

    def __init__(self) -> None:
        self._kept: dict[int, str] = {}  # by the id's hash, of 64 bits: a million ids meet with probability 3e-8
        self._tried: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def claim(self, id: str, name: str) -> AsyncIterator[None]:
        """The id is the picture's alone meanwhile, and from then on unless the block raises.

        name: how a person finds the picture. Raises PictureRefused where another one has the id.
        """
        while (other := self._tried.get(id)) is not None:
            await other.wait()
        if (holder := self._kept.get(hash(id))) is not None:
            raise taken(id, holder)
        over = self._tried[id] = asyncio.Event()
        try:
            yield
            self._kept[hash(id)] = name
        finally:
            del self._tried[id]
            over.set()


def taken(id: str, holder: str) -> PictureRefused:
    """For a picture whose id `holder` has."""
    return PictureRefused(f"would get the id {id}, which {holder} already has: rename one of them", "duplicate-id")
