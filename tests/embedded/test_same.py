"""Items stored from the bytes that are searched with score exactly 1, whatever was rounded, filtered or grouped."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.live.upkeep.policy import Policy
from index.filters import parse_filter
from index.items import Entry, SearchResult
from index.types import Collection
from tests.harness.catalogues import entry, vector

DIM = 256  # stored in half precision, as a real model is
FILE = b"the same file"
SHA = hashlib.sha256(FILE).hexdigest()
OTHERS = 60


def made(id: str, seed: int, data: bytes = FILE, **metadata: Any) -> Entry:
    """An item whose picture is `data`; another build may have made another vector of it."""
    return replace(entry(id, seed, data, **metadata), vector=vector(seed, DIM))


@pytest.fixture(params=["flat", "compressed"])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Collection]:
    """Sixty items of other files, searched exactly or through a compressed index."""
    policy = Policy() if request.param == "flat" else Policy(compress_from=50, merge_from=10_000)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=policy)
    found, _ = catalogue.create("default", model="test", fingerprint="test-1", dim=DIM)
    store(found, *(made(f"other{n:02}", 100 + n, b"%d" % n, brand="x", n=n) for n in range(OTHERS)))
    until = time.monotonic() + 60
    while request.param == "compressed" and not found.info().index.indexed:
        assert time.monotonic() < until
        time.sleep(0.02)
    yield found
    catalogue.close()


def store(collection: Collection, *entries: Entry) -> None:
    collection.upsert(entries, fingerprint="test-1")


def told(found: SearchResult) -> list[tuple[str, float]]:
    return [(match.item.id, match.score) for match in found.matches]


def test_a_threshold_of_one_finds_what_is_stored_from_the_same_bytes(collection: Collection) -> None:
    """Half precision moves the cosine of a vector with itself by up to 1e-4, up or down."""
    files = {seed: b"file %d" % seed for seed in range(1, 9)}
    store(collection, *(made(f"a{seed}", seed, data) for seed, data in files.items()))
    for seed, data in files.items():
        sha256 = hashlib.sha256(data).hexdigest()
        found = collection.search(vector(seed, DIM), min_score=1.0, sha256=sha256)
        assert (told(found), found.best_score, found.same) == ([(f"a{seed}", 1.0)], 1.0, 1)
        assert [match.same for match in found.matches] == [True]
    assert any(collection.search(vector(seed, DIM)).best_score != 1.0 for seed in files), "else nothing is shown"


def test_the_same_bytes_score_one_even_where_the_vector_is_another(collection: Collection) -> None:
    store(collection, made("old", 5), made("new", 1), made("near", 1, b"saved again"))
    found = collection.search(vector(1, DIM), limit=3, sha256=SHA)
    assert told(found)[:2] == [("old", 1.0), ("new", 1.0)]
    assert found.matches[2].item.id == "near" and found.matches[2].score == pytest.approx(1, abs=2e-4)
    assert [match.same for match in found.matches] == [True, True, False]


def test_without_a_file_a_score_is_what_the_vectors_say(collection: Collection) -> None:
    store(collection, made("old", 5), made("new", 1))
    found = collection.search(vector(1, DIM), limit=1)
    assert found.matches[0].item.id == "new" and not found.matches[0].same and found.same == 0


def test_pages_filters_and_exclusions_hold_for_them_too(collection: Collection) -> None:
    store(collection, *(made(f"same{n}", 1, n=n) for n in range(5)))
    query = vector(1, DIM)
    assert told(collection.search(query, limit=2, offset=3, sha256=SHA, min_score=1.0)) == [
        ("same3", 1.0),
        ("same4", 1.0),
    ]
    only = parse_filter({"must": [{"key": "n", "range": {"gte": 3, "lt": 50}}]})
    found = collection.search(query, limit=100, filter=only, exclude=["same4"], sha256=SHA)
    assert told(found)[0] == ("same3", 1.0) and found.same == 1 and found.filtered_count == 49
    assert "same4" not in dict(told(found)) and len(found.matches) == 48
    assert collection.search(query, limit=1, exclude=[f"same{n}" for n in range(5)], sha256=SHA).same == 0


def test_the_group_of_the_same_file_comes_first(collection: Collection) -> None:
    store(collection, made("mine", 5, brand="y"), made("near", 1, b"saved again", brand="z"))
    found = collection.search(vector(1, DIM), limit=3, group_by="brand", sha256=SHA)
    assert [(match.item.id, match.group, match.same) for match in found.matches] == [
        ("mine", "y", True),
        ("near", "z", False),
        (found.matches[2].item.id, "x", False),
    ]
    assert found.best_score == 1.0
    assert told(collection.search(vector(1, DIM), group_by="brand", min_score=1.0, sha256=SHA))[0] == ("mine", 1.0)


def test_a_removed_or_replaced_item_is_the_same_no_more(collection: Collection) -> None:
    store(collection, made("a", 1), made("b", 1))
    collection.delete(["a"])
    store(collection, made("b", 2, b"another file"))
    found = collection.search(vector(1, DIM), sha256=SHA)
    assert (found.same, max(score for _, score in told(found)) < 0.9) == (0, True)


def test_another_collection_is_not_looked_at(tmp_path: Path) -> None:
    catalogue = EmbeddedCatalogue.open(tmp_path)
    one, two = (catalogue.create(name, model="t", fingerprint="test-1", dim=DIM)[0] for name in ("one", "two"))
    store(one, made("a", 1))
    store(two, made("b", 2))
    assert told(two.search(vector(1, DIM), min_score=1.0, sha256=SHA)) == [("b", 1.0)]
    catalogue.close()


@pytest.mark.parametrize(
    ("key", "metadata", "groupable"),
    [
        ("brand", {"brand": "y"}, True),
        ("size", {"brand": "y"}, False),
        ("brand", {"brand": ["y", "z"]}, False),
        ("brand.name", {"brand": {"name": 1}}, True),
        ("brand.name", {"brand": "y"}, False),
        ("n", {"n": None}, False),
    ],
)
def test_a_key_that_nothing_can_be_grouped_by_is_told_from_no_match(
    tmp_path: Path, key: str, metadata: dict[str, Any], groupable: bool
) -> None:
    catalogue = EmbeddedCatalogue.open(tmp_path)
    collection, _ = catalogue.create("default", model="t", fingerprint="test-1", dim=DIM)
    store(collection, made("a", 1, **metadata))
    found = collection.search(vector(1, DIM), group_by=key)
    assert (found.groupable, bool(found.matches)) == (groupable, groupable)
    assert collection.search(vector(1, DIM), group_by=key, offset=5).groupable == groupable
    assert collection.search(vector(1, DIM)).groupable
    none = parse_filter({"must": [{"key": "none", "match": 1}]})
    assert not collection.search(vector(1, DIM), group_by=key, filter=none).groupable
    catalogue.close()
