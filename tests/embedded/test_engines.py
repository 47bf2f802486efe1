"""One case table for every engine behind the Protocols `Catalogue` and `Collection`, with numpy as oracle.

Nothing here knows an engine: another one is a line in `ENGINES`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.errors import CollectionNotFound, ItemNotFound, ModelMismatch, RecordConflict, RecordNotFound
from index.filters import parse_filter
from index.items import Entry
from index.types import Catalogue, Collection
from tests.harness.catalogues import DIM, ENGINES, MODEL, vector

COUNT = 60
ROWS = np.stack([vector(n) for n in range(COUNT)])
METADATA: list[dict[str, Any]] = [
    {
        "n": n,
        "big": 2**53 + n,
        "brand": "abc"[n % 3],
        "price": n / 4,
        "sizes": [n % 5, str(n % 4)],
        "variants": [{"colour": n % 7}, {"colour": "none"}],
        "at": f"2026-11-{1 + n % 28:02}T12:00:00+{n % 10:02}:00",
    }
    for n in range(COUNT)
]
FILTERS: dict[str, Any] = {
    "none": None,
    "match": {"must": [{"key": "brand", "match": "a"}]},
    "any of a list": {"must": [{"key": "sizes", "any": [3, "2"]}]},
    "range": {"must": [{"key": "price", "range": {"gte": 2.5, "lt": 11}}]},
    "large integers": {"must": [{"key": "big", "range": {"gt": 2**53 + 7, "lte": 2**53 + 21}}]},
    "through a list": {"should": [{"key": "variants.colour", "match": 3}, {"key": "n", "match": 2.0}]},
    "times": {"must": [{"key": "at", "range": {"gte": "2026-11-05T06:00:00Z", "lt": "2026-11-20"}}]},
    "not": {"must_not": [{"key": "brand", "match": "a"}], "must": [{"key": "n", "range": {"lt": 50}}]},
    "nothing": {"must": [{"key": "brand", "match": "z"}]},
}


@pytest.fixture(params=list(ENGINES))
def catalogue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalogue]:
    with contextlib.closing(ENGINES[request.param](tmp_path / "data")) as opened:
        yield opened


@pytest.fixture
def collection(catalogue: Catalogue) -> Collection:
    made, created = catalogue.create("default", **MODEL)
    assert created and not catalogue.create("default", **MODEL)[1]
    entries = [Entry(f"i{n:02}", ROWS[n], METADATA[n]) for n in range(COUNT)]
    written = made.upsert(entries, fingerprint=made.fingerprint)
    assert all(each.created and each.changed for each in written)
    return made


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_search_finds_what_numpy_finds(collection: Collection, name: str, limit: int) -> None:
    """Ids, scores, best score and count over the filtered set, with offset and threshold."""
    filter = None if FILTERS[name] is None else parse_filter(FILTERS[name])
    passing = [n for n in range(COUNT) if filter is None or filter.accepts(METADATA[n])]
    for query in (vector(3), vector(900)):
        scores = ROWS[passing] @ query
        order = np.argsort(-scores)
        found = collection.search(query, limit=limit, offset=2, min_score=-0.1, filter=filter)
        assert found.filtered_count == len(passing) == collection.count(filter)
        expected = [scores[at] for at in order[2 : 2 + limit] if scores[at] >= -0.1]
        np.testing.assert_allclose([match.score for match in found.matches], expected, atol=2e-4)
        # Rounding may swap neighbours, so each is held against its own score and not against its place.
        oracle = {f"i{n:02}": score for n, score in zip(passing, scores, strict=True)}
        assert len({match.item.id for match in found.matches}) == len(found.matches)
        for match in found.matches:
            assert match.score == pytest.approx(oracle[match.item.id], abs=2e-4)
        assert found.best_score == (pytest.approx(scores.max(), abs=2e-4) if passing else None)
    ids = [item.id for item in collection.scan(limit=100, filter=filter).items]
    assert ids == [f"i{n:02}" for n in passing]


def test_nearest_is_the_same_search_without_the_items(collection: Collection) -> None:
    for query, found in zip(ROWS[:9], collection.nearest(ROWS[:9], 5), strict=True):
        full = collection.search(query, limit=5)
        assert found.ids == [match.item.id for match in full.matches]
        np.testing.assert_allclose(found.scores, [match.score for match in full.matches], atol=1e-6)


def test_groups_and_exclusions(collection: Collection) -> None:
    """The best of each group, best first; what is excluded counts for nothing but the filter."""
    query = vector(900)
    order = np.argsort(-(ROWS @ query))
    best: dict[str, int] = {}
    for n in order.tolist():
        best.setdefault(METADATA[n]["brand"], n)
    found = collection.search(query, group_by="brand")
    assert [(match.group, match.item.id) for match in found.matches] == [(k, f"i{n:02}") for k, n in best.items()]
    left = collection.search(query, limit=1, exclude=[f"i{order[0]:02}"])
    assert left.matches[0].item.id == f"i{order[1]:02}" and left.filtered_count == COUNT


def test_writes_are_read_at_once(collection: Collection) -> None:
    """Replaced, described, deleted one by one and by filter, imported in bulk."""
    fingerprint = collection.fingerprint
    (written,) = collection.upsert([Entry("i00", vector(500), {"n": -1})], fingerprint=fingerprint)
    assert written.changed and not written.created
    assert collection.search(vector(500), limit=1).matches[0].item.metadata == {"n": -1}
    (same,) = collection.upsert([Entry("i00", vector(500), {"n": -1})], fingerprint=fingerprint)
    assert not same.changed
    assert collection.merge_metadata("i00", {"n": None, "x": {"y": 1}}).metadata == {"x": {"y": 1}}
    assert collection.get("i00").metadata == {"x": {"y": 1}} and collection.whole(["i00", "no"]).keys() == {"i00"}
    assert collection.delete(["i00", "i00", "missing"]) == 1
    assert collection.delete_where(parse_filter(FILTERS["match"])) == 19
    assert collection.count() == collection.info().count == 40
    ids = [f"v{n}" for n in range(200)]
    bulk = np.random.default_rng(5).standard_normal((200, DIM)).astype(np.float32)
    done = collection.import_vectors(ids, bulk, [{"bulk": n} for n in range(200)], fingerprint=fingerprint)
    assert (done.created, done.replaced, done.unchanged) == (200, 0, 0)
    assert collection.search(bulk[77], limit=1).matches[0].item.id == "v77"
    np.testing.assert_allclose(collection.vectors(["v3"])[0], bulk[3] / np.linalg.norm(bulk[3]), atol=1e-3)
    for missing in (lambda: collection.get("i00"), lambda: collection.thumbnail("v3")):
        with pytest.raises(ItemNotFound):
            missing()
    with pytest.raises(ModelMismatch):
        collection.upsert([Entry("a", vector(1))], fingerprint="another")


def test_pages_meet_every_item_once(collection: Collection) -> None:
    ids: list[str] = []
    cursor = None
    while True:
        page = collection.scan(limit=7, cursor=cursor)
        ids += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert ids == sorted(f"i{n:02}" for n in range(COUNT))


def test_a_catalogue_keeps_collections_and_records_apart(catalogue: Catalogue, collection: Collection) -> None:
    other, _ = catalogue.create("other", **MODEL)
    collection.set_score_threshold(0.5)
    for number, records in enumerate((catalogue.records, collection.records, other.records)):
        made = records.put("kind", "name", {"of": number}, expected=0)
        with pytest.raises(RecordConflict):
            records.put("kind", "name", {}, expected=made.version + 1)
    assert catalogue.names() == [info.name for info in catalogue.infos()] == ["default", "other"]
    assert (collection.score_threshold, other.score_threshold) == (0.5, None)
    catalogue.clear("default")
    assert collection.count() == 0 and collection.score_threshold is None
    with pytest.raises(RecordNotFound):
        collection.records.get("kind", "name")
    catalogue.drop("other")
    for gone in (lambda: catalogue.get("other"), other.count, lambda: other.search(vector(1))):
        with pytest.raises(CollectionNotFound):
            gone()
    assert catalogue.records.get("kind", "name").value == {"of": 0}
    assert list(catalogue.verify()) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_written_is_there_after_a_restart(tmp_path: Path, engine: str) -> None:
    with contextlib.closing(ENGINES[engine](tmp_path)) as first:
        made, _ = first.create("default", **MODEL)
        made.upsert([Entry("a", vector(1), {"n": 2**60})], fingerprint=made.fingerprint)
        made.set_score_threshold(0.25)
        record = first.records.put("k", "n", {"v": 1})
    with contextlib.closing(ENGINES[engine](tmp_path)) as again:
        kept = again.get("default")
        assert kept.search(vector(1)).matches[0].item.metadata == {"n": 2**60}
        assert kept.score_threshold == 0.25 and again.records.get("k", "n") == record


def test_a_change_of_records_is_seen_without_reading_them(catalogue: Catalogue, collection: Collection) -> None:
    """What is kept of records in memory is known to be stale, whichever way they changed."""
    seen = [collection.revision]
    collection.records.put("k", "n", {"v": 1})
    seen.append(collection.revision)
    collection.records.delete("k", "n")
    seen.append(collection.revision)
    catalogue.clear(collection.name)
    seen.append(collection.revision)
    assert catalogue.get(collection.name).revision == seen[-1], "reading changes nothing"
    other, _ = catalogue.create("by", **MODEL)
    before = {id(each): each.revision for each in (collection, other)}
    assert catalogue.replace(collection.name, "by", kept="kept", sequence=collection.sequence)
    assert all(before[id(each)] != each.revision for each in (collection, other))
    assert len(set(seen)) == len(seen)
