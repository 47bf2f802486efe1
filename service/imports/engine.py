"""An import: pictures of a source go to a target, one bad picture never stops the rest, and what is done stays done.

A picture that is stored already is not embedded again: an import can be repeated, and one that was cut off goes on.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from service.fetching.fetcher import Fetcher
from service.imports.claims import Claims, taken
from service.imports.reading.read import Read
from service.imports.reading.reader import Reader
from service.imports.roots import KEY as ROOT
from service.imports.rule import Action, upsert
from service.imports.sources.source import Bad, Source
from service.imports.tally import Tally
from service.imports.targets.target import ItemGone, PictureRefused, Target


async def run(
    sources: Iterable[Source],
    target: Target,
    *,
    total: int,
    bad: Sequence[Bad] = (),
    on_progress: Callable[[Tally], None] = lambda tally: None,
    on_bad: Callable[[Bad], None] | None = None,
    stop: asyncio.Event | None = None,
    merge: bool = True,
    since: float = float("inf"),
    fetcher: Fetcher | None = None,
) -> Tally:
    """Imports `sources`, which are read once, some ahead.

    total: how many there are. bad: files already known to fail, reported with the rest. on_progress: called after every
    picture; on_bad: with every one that fails, instead of keeping it in the tally. Setting `stop` ends it early:
    pictures under way finish, the tally says `interrupted`. merge: metadata that only the stored item has stays. since:
    UTC seconds of an earlier run that was cut off; what it wrote counts as written, and not as unchanged. fetcher:
    for pictures that are named by address; None: they are refused. Raises what `target` raises.
    """
    began = time.monotonic()
    tally = Tally(total + len(bad))
    before = target.written
    reader = Reader(sources, target, fetcher)
    claims = Claims()
    write = partial(_one, reader=reader, target=target, tally=tally, merge=merge, since=since)

    def failed(row: Bad) -> None:
        tally.failed += 1
        (on_bad or tally.bad.append)(row)

    for row in bad:
        failed(row)

    async def lane() -> None:
        while not (stop and stop.is_set()) and (read := await reader.next()) is not None:
            try:
                if read.trouble is not None:
                    raise PictureRefused(read.trouble, read.slug)
                async with claims.claim(read.id, read.source.name):
                    await write(read)
                    if read.said is not None:
                        await target.remember(read.source.url, read.said)
            except PictureRefused as error:
                failed(Bad(read.source.name, str(error), error.slug, read.id, read.source.row))
            told()

    def told() -> None:
        tally.seconds = time.monotonic() - began
        tally.written = target.written - before
        on_progress(tally)

    try:
        await _together([lane() for _ in range(target.lanes)])
    finally:
        await reader.close()
        try:
            await target.finish()
        finally:
            tally.bad.sort(key=lambda row: natural(row.path))
            tally.interrupted = tally.handled < tally.total
            told()  # what the last batch made of it
    return tally


async def _one(read: Read, reader: Reader, target: Target, tally: Tally, *, merge: bool, since: float) -> None:
    id, source, stored = read.id, read.source, read.stored
    holder = stored.metadata.get("path") if stored is not None else None
    if isinstance(holder, str) and holder != source.name and holder in source.rivals:
        raise taken(id, holder)  # which comes yet, and keeps what it has
    metadata = source.metadata if merge or not source.root else {**source.metadata, ROOT: source.root}
    write = upsert(stored, read.sha256, metadata, merge=merge)
    if write.action is Action.KEEP and stored is not None:
        if stored.updated_at < since:
            tally.unchanged += 1
        elif stored.created_at < since:
            tally.replaced += 1
        else:
            tally.created += 1
        return
    if write.action is Action.DESCRIBE:
        try:
            await target.describe(id, read.data, read.sha256, write.metadata, keep=merge)
        except ItemGone:
            if not read.data and (read := await reader.again(read)).trouble is not None:
                raise PictureRefused(read.trouble, read.slug) from None
            stored, write = None, upsert(None, read.sha256, metadata)
    if write.action is Action.EMBED:
        root = {ROOT: source.root} if source.root else {}
        await target.put(id, read.data, read.sha256, {**write.metadata, **root})
        tally.put += 1
    if stored is None:
        tally.created += 1
    else:
        tally.replaced += 1


def natural(name: str) -> list[str | int]:
    """A key that puts line 10 behind line 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


async def _together(lanes: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of them, or the first one's error once the others have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
