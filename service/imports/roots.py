"""Roots: where an import's pictures come from. An import does not replace what another root brought, unless asked to.

Two cards out of one camera hold the same names; a folder that was moved holds the same pictures. So an import under a
new root that meets its names in the collection may replace pictures where most of those it meets are the same.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from itertools import islice

from service.imports.sources.source import Source, Unreadable
from service.imports.targets.target import Target

KEY = "root"  # of an item's metadata
CHUNK = 256


class RootConflict(Exception):
    """An import would replace pictures that another root brought. One line: which, and what to do."""


async def check(sources: Iterable[Source], target: Target) -> None:
    """Raises RootConflict where most pictures that another root brought under these ids are different ones.

    Reads only the pictures that meet such an item, and fetches none. An item without a root counts as brought by the
    same.
    """
    same, different, example = 0, 0, ""
    rest = iter(sources)
    while chunk := await asyncio.to_thread(lambda: list(islice(rest, CHUNK))):
        stored = await target.known([source.id for source in chunk])
        for source in chunk:
            known = stored.get(source.id)
            if source.url or known is None or known.sha256 is None:
                continue
            if known.metadata.get(KEY, source.root) == source.root:
                continue
            try:
                data = await asyncio.to_thread(source.read, target.max_bytes)
            except Unreadable:
                continue  # it replaces nothing
            if hashlib.sha256(data).hexdigest() == known.sha256:
                same += 1
            else:
                different += 1
                example = example or f"{source.name} as {source.id}, from {known.metadata[KEY]}"
    if different > 0 and different >= same:
        pictures = "1 picture" if different == 1 else f"{different:,} pictures"
        raise RootConflict(
            f"{pictures} would replace what another folder brought ({example}): "
            "give ids of their own with --prefix NAME, or pass --replace"
        )
