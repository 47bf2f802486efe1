"""What arrives: pictures that are being fetched, some at a time, each handed over once it is there.

Of two with one id the second one waits for the first, so that the first one gets the id.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

from service.errors import UrlFailed, UrlRefused, UrlTooLarge
from service.fetching.fetcher import Fetcher, Validators
from service.imports.reading.read import Read

# Pictures that are fetched, or are there and not taken: they are in memory.
AT_ONCE = 32


class Arriving:
    """Lives on one event loop; `close` it. fetcher: None where nothing may be fetched."""

    def __init__(self, fetcher: Fetcher | None, max_bytes: int) -> None:
        self._fetcher = fetcher
        self._max_bytes = max_bytes
        self.tasks: dict[asyncio.Task[Read], str] = {}  # in the order of their sources, with ids

    @property
    def full(self) -> bool:
        return len(self.tasks) >= AT_ONCE

    def expect(self, read: Read, known: Validators | None) -> None:
        """A picture is on its way. known: what was said of it when the item's picture was fetched."""
        before = [task for task, id in self.tasks.items() if id and id == read.id]
        self.tasks[asyncio.create_task(self._fetched(read, known, before))] = read.id

    def waits_for(self, id: str) -> bool:
        """Whether a picture with this id is on its way."""
        return bool(id) and id in self.tasks.values()

    def taken(self) -> list[Read]:
        """Those that are there, in the order of their sources."""
        done = [task for task in self.tasks if task.done()]
        for task in done:
            del self.tasks[task]
        return [task.result() for task in done]

    async def again(self, read: Read) -> Read:
        """A picture that was not sent because it had not changed."""
        return await self._fetched(read, None, [])

    async def close(self) -> None:
        """Nothing arrives any more."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def _fetched(self, read: Read, known: Validators | None, before: list[asyncio.Task[Read]]) -> Read:
        if before:
            await asyncio.wait(before)
        if not read.source.url:
            return read
        if self._fetcher is None:
            return replace(read, trouble="it would have to be fetched (LOOKALIKE_FETCH_URLS)", slug="url-refused")
        try:
            got = await self._fetcher.fetch(read.source.url, max_bytes=self._max_bytes, validators=known)
        except UrlRefused as error:
            return replace(read, trouble=str(error), slug="url-refused")
        except UrlFailed as error:
            slug = "content-too-large" if isinstance(error, UrlTooLarge) else "url-failed"
            return replace(read, trouble=f"cannot be fetched: {error}", slug=slug)
        if got.data is None:
            assert known is not None
            return replace(read, sha256=known.sha256)
        sha256 = hashlib.sha256(got.data).hexdigest()
        said = Validators(sha256, got.etag, got.modified) if got.etag or got.modified else None
        return replace(read, data=got.data, sha256=sha256, said=said)
