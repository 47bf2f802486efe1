"""Facets against counting in Python, whatever the metadata, the filter and what was written since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.facets import FEW_NUMBERS, edges, rounded
from index.filters import is_number, parse_filter, token, values_at
from index.items import Entry
from index.open import open_catalogue
from index.types import Collection
from tests.harness.catalogues import MODEL, vector

Rows = dict[str, dict[str, Any]]


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    catalogue = open_catalogue(tmp_path)
    yield catalogue.create("default", **MODEL)[0]
    catalogue.close()


def write(collection: Collection, rows: Rows) -> None:
    entries = [Entry(id, vector(int(id)), metadata) for id, metadata in rows.items()]
    collection.upsert(entries, fingerprint=collection.fingerprint)


def counted(rows: Rows, key: str) -> Counter[Any]:
    """How many items have each value."""
    return Counter(each for metadata in rows.values() for each in {token(value) for value in values_at(metadata, key)})


def test_values_and_ranges_among_found_and_searched(collection: Collection) -> None:
    rows: Rows = {
        str(n): {"brand": "abc"[n % 3], "price": n * 1.5, "size": [n % 4, "one"], "shown": n % 2 == 0}
        for n in range(60)
    }
    write(collection, rows)
    filter = parse_filter({"must": [{"key": "shown", "match": True}]})
    found = collection.facets(vector(0), keys=["brand", "price", "size", "none"], min_score=0.0, filter=filter)
    inside = {id: rows[id] for id in rows if rows[id]["shown"]}
    above = {m.item.id for m in collection.search(vector(0), limit=100, min_score=0.0, filter=filter).matches}
    assert (found.total, found.more, found.searched) == (len(above), False, 30)
    for key in ("brand", "size"):
        facet, searched = found.facets[key], counted(inside, key)
        assert {token(b.value): b.among for b in facet.buckets} == searched
        assert {token(b.value): b.count for b in facet.buckets if b.count} == counted({i: rows[i] for i in above}, key)
        assert [b.count for b in facet.buckets] == sorted((b.count for b in facet.buckets), reverse=True)
    ranges = found.facets["price"].buckets
    assert all(b.ranged for b in ranges) and ranges[0].low is None and ranges[-1].high is None
    assert [b.high for b in ranges[:-1]] == [b.low for b in ranges[1:]]
    for bucket in ranges:
        low, high = bucket.low or -np.inf, bucket.high or np.inf
        assert bucket.among == sum(low <= row["price"] < high for row in inside.values())
        assert bucket.count == sum(low <= rows[id]["price"] < high for id in above)
    assert found.facets["none"].buckets == [] and found.facets["none"].different == 0


def test_counting_stops_at_its_bound_and_says_so(collection: Collection) -> None:
    write(collection, {str(n): {"k": n} for n in range(30)})
    assert collection.facets(vector(1), keys=["k"], min_score=-1, bound=29).more
    assert not collection.facets(vector(1), keys=["k"], min_score=-1, bound=30).more
    assert collection.facets(vector(1), keys=[], min_score=-1, exclude=["1"]).total == 29


def test_a_key_with_a_million_values_shows_some_and_tells_how_many(collection: Collection) -> None:
    write(collection, {str(n): {"k": f"value {n}"} for n in range(200)})
    facet = collection.facets(vector(1), keys=["k"], min_score=-1, buckets=5).facets["k"]
    assert len(facet.buckets) == 5 and facet.different == 200


values = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from(["a", "b", "1"])
metadata = st.dictionaries(st.sampled_from("kl"), values | st.lists(values, max_size=3), max_size=2)


@given(st.lists(metadata, min_size=1, max_size=12), st.lists(st.tuples(st.integers(0, 14), metadata), max_size=8))
def test_facets_follow_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, first: list[dict[str, Any]], later: list[tuple[int, dict[str, Any]]]
) -> None:
    catalogue = open_catalogue(tmp_path_factory.mktemp("facets"))
    collection, _ = catalogue.create("default", **MODEL)
    rows: Rows = {str(n): each for n, each in enumerate(first)}
    write(collection, rows)
    collection.facets(vector(0), keys=["k"], min_score=-1)  # the column is read now
    for place, changed in later:
        rows[str(place)] = changed
        write(collection, {str(place): changed})
        if place % 3 == 0:
            collection.delete([str(place)])
            del rows[str(place)]
    facet = collection.facets(vector(0), keys=["k"], min_score=-1, buckets=50).facets["k"]
    expected = counted(rows, "k")
    if any(bucket.ranged for bucket in facet.buckets):
        numbers = [v for row in rows.values() for v in {token(x) for x in values_at(row, "k")} if v[0] == "num"]
        assert len({each[1] for each in numbers}) > FEW_NUMBERS - 1
        assert sum(bucket.among for bucket in facet.buckets) == len(numbers)
    else:
        assert {token(b.value): b.among for b in facet.buckets} == expected
        assert {token(b.value): b.count for b in facet.buckets} == expected
    catalogue.close()


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=100))
def test_edges_are_round_rising_and_inside(numbers: list[float]) -> None:
    numbers.sort()
    found = edges(numbers)
    assert found == sorted(set(found))
    assert all(numbers[0] < edge <= numbers[-1] and edge == rounded(edge) for edge in found)


def test_rounding() -> None:
    assert [rounded(n) for n in (1234, 0.0567, -1999, 0, 7, 10)] == [1200, 0.057, -2000, 0, 7, 10]
    assert is_number(rounded(1e300))
