"""Read: a source as far as it has come: with its bytes, or why there are none, and what the target has under its id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from service.fetching.fetcher import Validators
from service.imports.rule import Stored
from service.imports.sources.source import Source, Unreadable


@dataclass(frozen=True, slots=True)
class Read:
    """A source with its bytes, or why there are none; the id it gets, and what is stored under that.

    said: of a picture that was fetched, by its server. Without bytes and trouble, it is the stored one unchanged.
    """

    source: Source
    id: str
    data: bytes = b""
    sha256: str = ""
    trouble: str | None = None
    slug: str = ""  # of the trouble
    stored: Stored | None = None
    said: Validators | None = None


def read(source: Source, max_bytes: int) -> Read:
    """Reads a source, unless it has to be fetched. Blocks."""
    if source.url:
        return Read(source, source.id)
    try:
        data = source.read(max_bytes)
    except Unreadable as error:
        return Read(source, source.id, trouble=str(error), slug=error.slug)
    return Read(source, source.id, data, hashlib.sha256(data).hexdigest())
