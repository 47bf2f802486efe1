"""Versions: what servers said of the pictures that were fetched, kept as records that go with the collection.

A next import asks with them, and a picture that has not changed is neither sent nor embedded again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping

from index.errors import InvalidRecord, RecordNotFound, StoreCorrupt
from index.types import Collection
from service.fetching.fetcher import Validators

KIND = "fetched"


def versions(collection: Collection, urls: Iterable[str]) -> dict[str, Validators]:
    """Of those addresses that something is known of. Blocks."""
    found: dict[str, Validators] = {}
    for url in urls:
        with contextlib.suppress(RecordNotFound, StoreCorrupt):
            found[url] = Validators(**collection.records.get(KIND, _name(url)).value)
    return found


def remember(collection: Collection, said: Mapping[str, Validators]) -> None:
    """Keeps what was said of pictures by their addresses. Blocks."""
    for url, each in said.items():
        value = {"sha256": each.sha256, "etag": each.etag, "modified": each.modified}
        with contextlib.suppress(InvalidRecord):  # an odd header: the picture is asked for anew
            collection.records.put(KIND, _name(url), value)


def _name(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
