"""What a feed has named, when its word counts, and how much it may take away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.items import Entry
from index.open import open_catalogue
from index.types import Collection
from service.imports.sources.source import REASONS, Bad, Source
from service.imports.sync import HARMLESS, Feed, gone, refusal, watched

names = st.text("abcd", min_size=1, max_size=2)


def source(id: str, *, earlier: str = "", name: str = "") -> Source:
    return Source(id, {}, lambda _: b"", name or id, earlier=earlier)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    catalogue = open_catalogue(tmp_path / "data")
    yield catalogue.create("shop", model="m", fingerprint="f", dim=4)[0]
    catalogue.close()


def put(collection: Collection, ids: list[str], *, path: str | None = None) -> None:
    metadata = {} if path is None else {"path": path}
    collection.upsert([Entry(id, np.ones(4, np.float32), metadata) for id in ids], fingerprint="f")


def going(collection: Collection, feed: Feed, before: float = 1e12) -> list[str]:
    return list(gone(collection, feed, before, lambda: False))


def test_what_goes_is_what_was_not_named(collection: Collection) -> None:
    """An id counts that an item has from an earlier version, and a path where the id was chosen by somebody."""
    put(collection, ["a", "b", "c", "d_e", "mine"])
    put(collection, ["own"], path="x é.jpg")
    feed = Feed()
    sources = [
        source("a"),
        source("d_e-12345678", earlier="d_e", name="d e.jpg"),
        source("x", earlier="y", name="x é.jpg"),
    ]
    assert list(watched(sources, feed)) == sources
    feed.bad(Bad("c.jpg", "is no picture", "image-undecodable", "c"))
    assert going(collection, feed) == ["b", "mine"]


def test_what_came_after_the_beginning_stays(collection: Collection) -> None:
    """Somebody put it there meanwhile; and whoever is asked to stop names no more."""
    put(collection, ["a"])
    assert going(collection, Feed(), before=collection.get("a").created_at) == []
    assert list(gone(collection, Feed(), 1e12, lambda: True)) == []


def test_every_item_is_looked_at_however_many_there_are(collection: Collection) -> None:
    """Through the pages of a scan."""
    ids = [f"i{number:05}" for number in range(2500)]
    put(collection, ids)
    feed = Feed()
    feed.add_ids(ids[::2])
    assert going(collection, feed) == ids[1::2]


@pytest.mark.parametrize("slug", sorted(REASONS))
def test_a_row_that_may_be_of_any_item_makes_doubt(slug: str) -> None:
    """One with an id keeps its own item and no other; one that can be of no item does not matter."""
    feed = Feed()
    feed.bad(Bad("line 3", "why", slug))
    assert (feed.doubt is None) == (slug in HARMLESS)
    named = Feed()
    named.bad(Bad("line 3", "why", slug, "a"))
    assert (named.doubt is None) == (slug != "cut-off")


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 1))
def test_a_share_is_a_share(removed: int, more: int, most: float) -> None:
    """All may go at 1, nothing at 0, and no removal is no reason."""
    count = removed + more
    refused = refusal(removed, count, most, ["a"])
    assert (refused is None) == (removed == 0 or removed <= most * count)
    assert refusal(removed, count, 1.0, []) is None
    assert refused is None or "\n" not in refused
