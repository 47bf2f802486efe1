"""What the tests of imports share: a target in memory, and folders made on the spot."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.fetching.fetcher import Validators
from service.imports.engine import run
from service.imports.rule import Stored
from service.imports.sources.folder import Plan, plan
from service.imports.sources.names import root_of
from service.imports.sources.source import Source
from service.imports.tally import Tally
from service.imports.targets.target import ItemGone, PictureRefused


class Memory:
    """A target that keeps what it is given, and refuses bytes that begin with "bad"."""

    def __init__(self, *, lanes: int = 3, room: int = 10**9) -> None:
        self.lanes = lanes
        self.max_bytes = 1000
        self.items: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.embedded = self.written = 0
        self.finished = 0
        self.asked: list[list[str]] = []
        self.searched: list[list[str]] = []
        self.room = room
        self.said: dict[str, Validators] = {}
        self.dates: dict[str, tuple[float, float]] = {}

    async def known(self, ids: Sequence[str]) -> Mapping[str, Stored]:
        self.asked.append(list(ids))
        there = {id: self.items[id] for id in ids if id in self.items}
        return {
            id: Stored(hashlib.sha256(data).hexdigest(), kept, *self.dates.get(id, (0.0, 0.0)))
            for id, (data, kept) in there.items()
        }

    async def under(self, paths: Sequence[str]) -> Mapping[str, Stored]:
        self.searched.append(list(paths))
        there = [id for id, (_, kept) in self.items.items() if kept.get("path") in paths]
        return await self.known(there)

    async def put(self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any]) -> None:
        assert sha256 == hashlib.sha256(data).hexdigest()
        await asyncio.sleep(0)
        if data.startswith(b"bad"):
            raise PictureRefused("no picture")
        if self.embedded >= self.room:
            raise OSError("the disk is full")
        self.embedded += 1
        self.written += 1
        self.items[id] = (data, dict(metadata))

    async def describe(
        self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any], *, keep: bool = True
    ) -> None:
        if id not in self.items or hashlib.sha256(self.items[id][0]).hexdigest() != sha256:
            raise ItemGone(id)
        self.items[id] = (self.items[id][0], dict(metadata))

    async def versions(self, urls: Sequence[str]) -> Mapping[str, Validators]:
        return {url: self.said[url] for url in urls if url in self.said}

    async def remember(self, url: str, said: Validators) -> None:
        self.said[url] = said

    async def finish(self) -> None:
        self.finished += 1


def described(path: str, root: Path) -> dict[str, str]:
    """The metadata of a picture that was embedded."""
    return {"path": path, "folder": path.rpartition("/")[0], "root": root_of(root)}


def imported(sources: Iterable[Source], target: Memory, **options: Any) -> Tally:
    found = list(sources)
    return asyncio.run(run(found, target, total=len(found), **options))


def written(root: Path, contents: Mapping[str, bytes]) -> Plan:
    """A folder with these files, planned. Names as the operating system has them."""
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return plan(root)


def import_of(planned: Plan, target: Memory) -> Tally:
    return imported(planned.sources(), target)
