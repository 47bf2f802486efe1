"""A collection does what its Protocol says, on a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.collection import EmbeddedCollection
from index.errors import (
    CollectionNotFound,
    InvalidCursor,
    InvalidId,
    InvalidMetadata,
    InvalidVector,
    ItemNotFound,
    ModelMismatch,
    StoreClosed,
)
from index.filters import parse_filter
from index.items import Entry
from tests.harness.catalogues import DIM, MODEL, default, entry, originals, put, vector


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[EmbeddedCatalogue]:
    opened = EmbeddedCatalogue.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def collection(catalogue: EmbeddedCatalogue) -> EmbeddedCollection:
    return default(catalogue)


def ids(collection: EmbeddedCollection, seed: int, **options: object) -> list[str]:
    return [match.item.id for match in collection.search(vector(seed), **options).matches]  # type: ignore[arg-type]


def test_upsert_tells_what_happened(collection: EmbeddedCollection) -> None:
    """Created, unchanged, changed metadata and changed vector are distinguished; created_at survives a replacement."""
    first = collection.upsert([entry("a", 1, b"x", n=1)], fingerprint="test-1")[0]
    same = collection.upsert([entry("a", 1, b"x", n=1)], fingerprint="test-1")[0]
    patched = collection.upsert([entry("a", 1, b"x", n=2)], fingerprint="test-1")[0]
    replaced = collection.upsert([entry("a", 2, b"x", n=2)], fingerprint="test-1")[0]
    assert [(w.created, w.changed) for w in (first, same, patched, replaced)] == [
        (True, True),
        (False, False),
        (False, True),
        (False, True),
    ]
    assert replaced.item.created_at == first.item.created_at
    assert collection.count() == 1
    assert collection.get("a").metadata == {"n": 2}


def test_same_id_twice_in_one_call(collection: EmbeddedCollection) -> None:
    """The later entry wins and nothing of the earlier one stays searchable."""
    put(collection, entry("a", 1), entry("b", 2), entry("a", 3))
    assert collection.count() == 2
    assert collection.search(vector(1)).best_score < 0.9  # type: ignore[operator]
    assert ids(collection, 3, limit=1) == ["a"]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Entry("a/b", vector(1)), InvalidId),
        (Entry("..", vector(1)), InvalidId),
        (Entry("x" * 129, vector(1)), InvalidId),
        (Entry("a", np.zeros(DIM, np.float32)), InvalidVector),
        (Entry("a", np.full(DIM, np.nan, np.float32)), InvalidVector),
        (Entry("a", np.full(DIM, np.inf, np.float32)), InvalidVector),
        (Entry("a", np.ones(DIM + 1, np.float32)), InvalidVector),
        (Entry("a", np.ones((1, DIM, 1), np.float32)), InvalidVector),
        (Entry("a", vector(1), {"n": float("nan")}), InvalidMetadata),
        (Entry("a", vector(1), {"n": 2**70}), InvalidMetadata),
        (Entry("a", vector(1), {"s": "\ud800"}), InvalidMetadata),
        (Entry("a", vector(1), [1]), InvalidMetadata),  # type: ignore[arg-type]
    ],
)
def test_bad_entry_refuses_the_whole_call(collection: EmbeddedCollection, bad: Entry, error: type[Exception]) -> None:
    """One bad entry leaves nothing of its call behind."""
    with pytest.raises(error):
        collection.upsert([entry("good", 1), bad], fingerprint="test-1")
    assert collection.count() == 0
    assert collection.search(vector(1)).matches == []


def test_other_model_is_refused(catalogue: EmbeddedCatalogue, collection: EmbeddedCollection) -> None:
    """Vectors of another model are never mixed in, also after a restart; emptied, a collection may change its model."""
    put(collection, entry("a", 1))
    with pytest.raises(ModelMismatch):
        collection.upsert([entry("b", 2)], fingerprint="other")
    catalogue.clear("default", model="m2", fingerprint="other", dim=8)
    collection.upsert([Entry("b", vector(2, 8))], fingerprint="other")
    assert (collection.count(), collection.dim, collection.model) == (1, 8, "m2")
    with pytest.raises(ModelMismatch):
        collection.upsert([entry("c", 2)], fingerprint="test-1")


def test_extreme_vectors_keep_their_direction(collection: EmbeddedCollection) -> None:
    """Lengths beyond what float32 can square still give exact cosines."""
    put(collection, Entry("tiny", vector(1) * np.float32(1e-30)), Entry("huge", vector(2) * np.float32(1e30)))
    found = collection.search(vector(1) * np.float32(1e-35), limit=2)
    assert [m.item.id for m in found.matches] == ["tiny", "huge"]
    assert found.best_score == pytest.approx(1, abs=2e-4)


def test_search_options(collection: EmbeddedCollection) -> None:
    """limit, offset, min_score, exclude and filter each do what they say; best_score ignores offset and min_score."""
    put(collection, *[entry(f"i{n}", n, n=n, even=n % 2 == 0) for n in range(50)])
    every = ids(collection, 7, limit=50)
    assert every[0] == "i7"
    assert ids(collection, 7, limit=5, offset=3) == every[3:8]
    assert ids(collection, 7, exclude=["i7", "none"], limit=49) == every[1:]
    found = collection.search(vector(7), min_score=0.999, offset=1)
    assert (found.matches, found.filtered_count) == ([], 50)
    assert found.best_score == pytest.approx(1, abs=2e-4)
    even = parse_filter({"must": [{"key": "even", "match": True}]})
    found = collection.search(vector(7), limit=50, filter=even)
    assert [m.item.id for m in found.matches] == [id for id in every if int(id[1:]) % 2 == 0]
    assert found.filtered_count == collection.count(even) == 25
    assert collection.search(vector(7), filter=parse_filter({})).filtered_count == 50
    assert collection.nearest(vector(7)[None], 50)[0].ids == every


def test_nothing_to_search(collection: EmbeddedCollection) -> None:
    """Empty collection, empty filter result, everything excluded: no matches and no best score."""
    assert collection.search(vector(1)).best_score is None
    put(collection, entry("a", 1))
    nothing = parse_filter({"must": [{"key": "x", "match": 1}]})
    assert collection.search(vector(1), filter=nothing).best_score is None
    assert collection.search(vector(1), exclude=["a"]).best_score is None
    with pytest.raises(InvalidVector):
        collection.search(np.ones(3, np.float32))


def test_group_by(collection: EmbeddedCollection) -> None:
    """One item per group, the best one, however large a group is; items without the key or with a list join none."""
    put(collection, *[entry(f"big{n}", n, p={"id": "big"}) for n in range(300)])
    put(collection, *[entry(f"small{n}", 1000 + n, p={"id": n}) for n in range(5)])
    put(collection, entry("list", 1, p={"id": ["big"]}), entry("none", 1), entry("true", 2000, p={"id": True}))
    found = collection.search(vector(1), limit=10, group_by="p.id")
    assert found.matches[0].item.id == "big1"
    assert {repr(m.group) for m in found.matches} == {"'big'", "0", "1", "2", "3", "4", "True"}
    scores = [m.score for m in found.matches]
    assert scores == sorted(scores, reverse=True)
    rest = collection.search(vector(1), limit=10, offset=2, group_by="p.id").matches
    assert [m.item.id for m in rest] == [m.item.id for m in found.matches[2:]]


def test_merge_patch(collection: EmbeddedCollection) -> None:
    """RFC 7396: null removes, objects merge, the rest replaces; filters follow at once."""
    put(collection, entry("a", 1, n=1, o={"x": 1, "y": 2}))
    was = parse_filter({"must": [{"key": "n", "match": 1}]})
    assert collection.count(was) == 1
    item = collection.merge_metadata("a", {"n": None, "o": {"x": None, "z": [1]}})
    assert item.metadata == collection.get("a").metadata == {"o": {"y": 2, "z": [1]}}
    assert collection.count(was) == 0
    with pytest.raises(ItemNotFound):
        collection.merge_metadata("b", {})


def test_delete(collection: EmbeddedCollection, tmp_path: Path) -> None:
    """By id and by filter; an original goes with the last item that refers to it, and no sooner."""
    put(collection, entry("a", 1, b"same"), entry("b", 2, b"same"), entry("c", 3, b"other", kind="x"))
    assert len(originals(tmp_path)) == 2
    assert collection.delete(["a", "a", "zz"]) == 1
    settle(collection)
    assert len(originals(tmp_path)) == 2
    assert collection.delete_where(parse_filter({"must": [{"key": "kind", "match": "x"}]})) == 1
    assert collection.delete(["b"]) == 1
    settle(collection)
    assert originals(tmp_path) == set()
    assert ids(collection, 1) == []
    with pytest.raises(ItemNotFound):
        collection.thumbnail("b")


def settle(collection: EmbeddedCollection) -> None:
    """One more write, behind whatever was queued."""
    collection.delete(["nothing"])
    collection.delete(["nothing"])


def test_scan_pages(collection: EmbeddedCollection) -> None:
    """Pages in id order, each once, with and without a filter; a foreign cursor is refused."""
    put(collection, *[entry(f"i{n:03}", n, odd=n % 2) for n in range(25)])
    for filter, step in ((None, 1), (parse_filter({"must": [{"key": "odd", "match": 0}]}), 2)):
        seen: list[str] = []
        cursor = None
        while True:
            page = collection.scan(limit=4, cursor=cursor, filter=filter)
            seen += [item.id for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == [f"i{n:03}" for n in range(0, 25, step)]
    for bad in ("", "x", "!!!", "MTovLw"):
        with pytest.raises(InvalidCursor):
            collection.scan(cursor=bad)


def test_vectors(collection: EmbeddedCollection) -> None:
    """Stored vectors come back as unit rows in the order asked."""
    put(collection, entry("a", 1), entry("b", 2))
    rows = collection.vectors(["b", "a"])
    np.testing.assert_allclose(rows, [vector(2), vector(1)], atol=5e-4)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    with pytest.raises(ItemNotFound):
        collection.vectors(["a", "c"])


def test_threshold_and_info(catalogue: EmbeddedCatalogue, collection: EmbeddedCollection, tmp_path: Path) -> None:
    """What is set by hand is in the description, survives a restart, and goes back."""
    put(collection, entry("a", 1))
    collection.set_score_threshold(0.5)
    assert (collection.score_threshold, collection.info().score_threshold) == (0.5, 0.5)
    assert catalogue.infos()[0].bytes > 128
    catalogue.close()
    again = EmbeddedCatalogue.open(tmp_path)
    assert again.get("default").score_threshold == 0.5
    again.get("default").set_score_threshold(None)
    assert again.infos()[0].score_threshold is None
    again.close()
    with pytest.raises(StoreClosed):
        again.get("default")


def test_collections_come_and_go(catalogue: EmbeddedCatalogue, collection: EmbeddedCollection, tmp_path: Path) -> None:
    """Creating twice keeps the first; dropping removes items, files and name; emptying keeps the name alone."""
    put(collection, entry("a", 1, b"x"))
    collection.set_score_threshold(0.3)
    assert catalogue.create("default", **MODEL) == (collection, False)
    catalogue.clear("default")
    assert (collection.count(), collection.score_threshold) == (0, None)
    assert ids(collection, 1) == []
    put(collection, entry("b", 2, b"y"))
    assert ids(collection, 2) == ["b"]
    catalogue.drop("default")
    assert catalogue.names() == []
    for gone in (lambda: catalogue.get("default"), lambda: catalogue.drop("default"), collection.count):
        with pytest.raises(CollectionNotFound):
            gone()
    with pytest.raises(CollectionNotFound):
        put(collection, entry("c", 3))
    with pytest.raises(InvalidId):
        catalogue.create("Bad Name", **MODEL)
    catalogue.close()
    again = EmbeddedCatalogue.open(tmp_path)
    assert default(again).count() == 0
    again.close()


def test_readers_never_miss_a_replaced_item(collection: EmbeddedCollection) -> None:
    """While an item is replaced over and over, every search finds its old or its new state, never neither."""
    put(collection, entry("a", 1), entry("b", 2))
    stop = threading.Event()

    def replace() -> None:
        n = 0
        while not stop.is_set():
            put(collection, entry("a", 1 + n % 2 * 1000))
            n += 1

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(300):
            assert sorted(ids(collection, 1)) == ["a", "b"]
    finally:
        stop.set()
        writer.join()


def test_concurrent_writers_are_grouped_and_all_acknowledged(collection: EmbeddedCollection) -> None:
    """Writes from many threads are all there once acknowledged, and each is found by its own thread at once."""
    failures: list[str] = []

    def write(part: int) -> None:
        for n in range(20):
            seed = part * 100 + n
            put(collection, entry(f"t{seed}", seed))
            if ids(collection, seed, limit=1) != [f"t{seed}"]:
                failures.append(f"t{seed}")

    threads = [threading.Thread(target=write, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert collection.count() == 160


def test_shared_original_survives_deletes_beside_uploads(
    catalogue: EmbeddedCatalogue, collection: EmbeddedCollection, tmp_path: Path
) -> None:
    """While items with one and the same picture come and go from several threads, each that stays has its original."""
    missing: list[str] = []

    def churn(part: int) -> None:
        for n in range(30):
            put(collection, entry(f"t{part}", part * 100 + n, b"the same picture"))
            media = collection.get(f"t{part}").media
            assert media is not None
            try:
                catalogue.original(media.sha256)
            except ItemNotFound:
                missing.append(f"t{part}")
            collection.delete([f"t{part}"])

    threads = [threading.Thread(target=churn, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []
    settle(collection)
    assert originals(tmp_path) == set()


def test_a_removed_collection_takes_nothing(catalogue: EmbeddedCatalogue, collection: EmbeddedCollection) -> None:
    """Whoever still holds a removed collection gets "not found" everywhere, also when another has its name now."""
    put(collection, entry("a", 1, b"x"))
    catalogue.drop("default")
    fresh = default(catalogue)
    put(fresh, entry("b", 2))
    calls: list[Callable[[], object]] = [
        lambda: put(collection, entry("c", 3)),
        lambda: collection.import_vectors(["c"], vector(3)[None], fingerprint="test-1"),
        lambda: collection.merge_metadata("a", {"n": 1}),
        lambda: collection.delete(["b"]),
        lambda: collection.delete_where(parse_filter({})),
        lambda: collection.set_score_threshold(0.5),
        lambda: collection.search(vector(1)),
        lambda: collection.nearest(vector(1)[None]),
        lambda: collection.get("a"),
        lambda: collection.vectors(["a"]),
        lambda: collection.thumbnail("a"),
        lambda: collection.scan(),
        lambda: collection.count(),
        lambda: collection.info(),
        lambda: collection.ready,
    ]
    for call in calls:
        with pytest.raises(CollectionNotFound):
            call()
    assert [item.id for item in fresh.scan().items] == ids(fresh, 2) == ["b"]
    assert fresh.score_threshold is None


def test_searches_beside_drops_and_clears(catalogue: EmbeddedCatalogue) -> None:
    """While a collection is emptied, removed and made again, a search finds what is there or "not found"."""
    errors: list[str] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            try:
                held = catalogue.get("default")
                held.search(vector(1), filter=parse_filter({"must": [{"key": "n", "range": {"gte": 0}}]}))
                held.nearest(vector(1)[None])
                held.info()
                catalogue.infos()
            except CollectionNotFound:
                pass
            except Exception as error:  # noqa: BLE001 - reported by the assertion below
                errors.append(repr(error))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(20):
        put(default(catalogue), *[entry(f"i{k}", k, n=k) for k in range(20)])
        catalogue.clear("default") if n % 2 else catalogue.drop("default")
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_vectors_and_thumbnails_beside_replacements(collection: EmbeddedCollection) -> None:
    """An item that is replaced all the time has its old or its new vector and thumbnail, at every moment, on every
    page.
    """
    put(collection, entry("a", 1, b"0"), entry("b", 2, b"b"))
    stop = threading.Event()

    def replace() -> None:
        n = 0
        while not stop.is_set():
            put(collection, entry("a", 1 + n % 2, b"%d" % (n % 2)))
            n += 1

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(300):
            assert collection.thumbnail("a") in (b"thumb0", b"thumb1")
            (row,) = collection.vectors(["a"])
            assert max(row @ vector(1), row @ vector(2)) > 0.9
            assert [item.id for item in collection.scan().items] == ["a", "b"]
    finally:
        stop.set()
        writer.join()


def test_replace_metadata(collection: EmbeddedCollection) -> None:
    """Metadata is replaced only while the item still has the picture that was looked at."""
    put(collection, entry("a", 1, b"x", n=1))
    sha256 = collection.get("a").media.sha256  # type: ignore[union-attr]
    assert collection.replace_metadata("a", {"m": 2}, sha256=sha256).metadata == {"m": 2}
    assert collection.count(parse_filter({"must": [{"key": "m", "match": 2}]})) == 1
    collection.merge_metadata("a", {"added": True})
    kept = collection.replace_metadata("a", {"m": 5}, sha256=sha256, keep=True)
    assert kept.metadata == collection.get("a").metadata == {"m": 5, "added": True}
    put(collection, entry("a", 1, b"y", m=3))
    for id in ("a", "none"):
        with pytest.raises(ItemNotFound):
            collection.replace_metadata(id, {"m": 4}, sha256=sha256)
    assert collection.get("a").metadata == {"m": 3}


def test_metadata_has_a_limit(collection: EmbeddedCollection) -> None:
    """65,536 bytes of JSON, also when many small patches add up to more."""
    put(collection, entry("a", 1, pad="x" * 60_000))
    with pytest.raises(InvalidMetadata):
        collection.merge_metadata("a", {"more": "x" * 6_000})
    assert set(collection.merge_metadata("a", {"some": "x" * 5_000}).metadata) == {"pad", "some"}


def test_cut_original_is_written_again(
    catalogue: EmbeddedCatalogue, collection: EmbeddedCollection, tmp_path: Path
) -> None:
    """An original whose file was cut short is whole again after the picture is uploaded once more."""
    put(collection, entry("a", 1, b"a whole picture"))
    sha256 = collection.get("a").media.sha256  # type: ignore[union-attr]
    (tmp_path / "originals" / sha256[:2] / sha256).write_bytes(b"a who")
    put(collection, entry("b", 2, b"a whole picture"))
    assert catalogue.original(sha256) == b"a whole picture"


@pytest.mark.parametrize("number", [2**53 + 1, 2**60 + 3, 2**63 - 1, -(2**63)])
def test_large_integers_are_found_alike_before_and_after_a_write(collection: EmbeddedCollection, number: int) -> None:
    """Whether it was read from the store or followed from a write, a value is compared as the integer it is."""
    nearby = [number - 1, number + 1, float(number)]
    put(collection, entry("before", 1, n=number))
    exactly = parse_filter({"must": [{"key": "n", "range": {"gte": number, "lte": number}}]})
    others = [each for each in nearby if abs(each) < 2**63 and each != number]
    beside = parse_filter({"must": [{"key": "n", "any": others}]})
    assert collection.count(exactly) == 1 and collection.count(beside) == 0
    put(collection, entry("after", 2, n=number))
    assert collection.count(exactly) == 2 and collection.count(beside) == 0
    assert {item.metadata["n"] for item in collection.scan(filter=exactly).items} == {number}


@pytest.mark.parametrize("metadata", [{"n": 2**63}, {"n": [1, {"m": -(2**63) - 1}]}, {"n": 2**70}])
def test_integers_beyond_64_bits_are_refused_wherever_they_come_from(
    collection: EmbeddedCollection, metadata: dict[str, Any]
) -> None:
    """Never rounded in silence: not on the way in, not by a patch, not in bulk."""
    put(collection, entry("a", 1))
    for write in (
        lambda: put(collection, entry("b", 2, **metadata)),
        lambda: collection.merge_metadata("a", metadata),
        lambda: collection.import_vectors(["c"], vector(3)[None], [metadata], fingerprint=collection.fingerprint),
    ):
        with pytest.raises(InvalidMetadata, match="64 bits"):
            write()
    assert collection.count() == 1 and collection.get("a").metadata == {}
