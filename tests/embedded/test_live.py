"""A compressed collection answers like an exact one:

at once, after merges, rebuilds and restarts, whatever lies on disk.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.collection import EmbeddedCollection
from index.embedded.live.upkeep.policy import Action, Figures, Policy
from index.embedded.store.encoding import unit_query
from index.errors import IndexNotReady
from index.filters import parse_filter
from tests.harness.catalogues import MODEL, default, entry, put, settled, vector
from tests.harness.failpoints import Doing, Hold

SMALL = Policy(compress_from=50, merge_from=10_000, save_from=10_000)


def fill(collection: EmbeddedCollection, first: int, stop: int) -> None:
    seeds = range(first, stop)
    collection.import_vectors(
        [f"i{n}" for n in seeds],
        np.stack([vector(n) for n in seeds]),
        [{"n": n, "even": n % 2 == 0} for n in seeds],
        fingerprint=MODEL["fingerprint"],
    )


def best(collection: EmbeddedCollection, seed: int, **options: Any) -> str:
    return collection.search(vector(seed), limit=1, **options).matches[0].item.id


@pytest.fixture
def compressed(tmp_path: Path) -> Iterator[tuple[EmbeddedCatalogue, EmbeddedCollection]]:
    """200 vectors in the compressed index, 20 newer ones beside it."""
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    collection = default(catalogue)
    fill(collection, 0, 200)
    settled(collection)
    fill(collection, 200, 220)
    assert collection.info().index.tail == 20
    yield catalogue, collection
    catalogue.close()


def test_newer_vectors_live_and_die_at_once(compressed: tuple[EmbeddedCatalogue, EmbeddedCollection]) -> None:
    """Before any merge: new ones are found, deleted ones never again, in both parts, filtered or not."""
    catalogue, collection = compressed
    even = parse_filter({"must": [{"key": "even", "match": True}]})
    for seed in (10, 210):
        assert best(collection, seed) == best(collection, seed, filter=even) == f"i{seed}"
        collection.delete([f"i{seed}"])
        for filter in (None, even):
            assert best(collection, seed, filter=filter) != f"i{seed}"
            assert f"i{seed}" not in [
                m.item.id for m in collection.search(vector(seed), limit=100, filter=filter).matches
            ]
    put(collection, entry("i20", 5000), entry("i211", 5001))
    assert best(collection, 5000) == "i20"
    assert best(collection, 5001) == "i211"
    assert collection.search(vector(20)).best_score < 0.9  # type: ignore[operator]
    assert collection.search(vector(1), limit=1000).filtered_count == collection.info().index.vectors == 218
    assert list(catalogue.verify()) == []


def test_scores_do_not_depend_on_the_structure(tmp_path: Path) -> None:
    """The same vectors searched exactly, compressed, and from the tail give the same cosines to the float64 truth."""
    rows = np.stack([vector(n) for n in range(300)]).astype(np.float64)
    for number, policy in enumerate([Policy(), SMALL, Policy(compress_from=50, merge_from=1)]):
        with_policy = EmbeddedCatalogue.open(tmp_path / str(number), policy=policy)
        collection = default(with_policy)
        fill(collection, 0, 150)
        settled(collection)
        fill(collection, 150, 300)
        for seed in range(1000, 1020):
            found = collection.search(vector(seed), limit=300)
            truth = rows @ vector(seed).astype(np.float64)
            np.testing.assert_allclose([m.score for m in found.matches], np.sort(truth)[::-1], atol=2e-4)
        with_policy.close()


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "lost", "older", "rows"])
def test_unusable_files_are_rebuilt(tmp_path: Path, damage: str) -> None:
    """A damaged, foreign, missing or outdated index file is noticed, named, and made again from the store."""
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    collection = default(catalogue)
    fill(collection, 0, 200)
    settled(collection)
    (file,) = tmp_path.glob("index/*/*/index")
    old = file.read_bytes()
    collection.delete([f"i{n}" for n in range(20)])
    fill(collection, 200, 230)
    catalogue.close()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "flip":
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    elif damage == "foreign":
        other = EmbeddedCatalogue.open(tmp_path / "other", policy=SMALL)
        fill(default(other), 1000, 1200)
        settled(default(other))
        other.close()
        (theirs,) = (tmp_path / "other").glob("index/*/*")
        shutil.rmtree(file.parent)
        shutil.copytree(theirs, file.parent)
    elif damage == "lost":
        file.unlink()
    elif damage == "older":
        file.write_bytes(old)
    else:
        (file.parent / "rows").write_bytes((file.parent / "rows").read_bytes()[:5000])
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    collection = default(catalogue)
    if not collection.ready:
        with pytest.raises(IndexNotReady):
            collection.search(vector(1))
        assert collection.get("i100").id == "i100"
    settled(collection)
    assert collection.ready
    for seed in range(20, 230, 7):
        assert best(collection, seed) == f"i{seed}"
    assert collection.search(vector(1)).best_score < 0.9  # type: ignore[operator]
    assert list(catalogue.verify()) == []
    catalogue.close()


@pytest.mark.parametrize(("name", "place"), [("rows", 4096 + 100 * 128 + 5), ("names", 100 * 132 + 6)])
def test_damaged_row_is_noticed_at_first_use(tmp_path: Path, name: str, place: int) -> None:
    """A vector or an id that changed in the files is not answered from: the index is rebuilt and answers again."""
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    fill(default(catalogue), 0, 200)
    settled(default(catalogue))
    catalogue.close()
    (file,) = tmp_path.glob(f"index/*/*/{name}")
    raw = bytearray(file.read_bytes())
    raw[place] ^= 0x41
    file.write_bytes(raw)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    collection = default(catalogue)
    assert collection.ready
    assert [finding.subject for finding in catalogue.verify()] == ["index default"]
    with pytest.raises(IndexNotReady):
        collection.nearest(vector(100)[None], 1)
    settled(collection)
    assert collection.nearest(vector(100)[None], 1)[0].ids[0] == best(collection, 100) == "i100"
    assert list(catalogue.verify()) == []
    catalogue.close()


def test_restart_replays_what_came_after(
    compressed: tuple[EmbeddedCatalogue, EmbeddedCollection], tmp_path: Path
) -> None:
    """A start after a crash uses the older index file and replays additions and removals from the store."""
    _, collection = compressed
    collection.delete(["i5", "i205"])
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy"))
    again = EmbeddedCatalogue.open(copy, policy=SMALL)
    reopened = default(again)
    assert reopened.ready
    assert reopened.info().index.trained == 200
    assert [best(reopened, seed) for seed in (4, 204, 219)] == ["i4", "i204", "i219"]
    assert not {"i5", "i205"} & {m.item.id for m in reopened.search(vector(5), limit=300).matches}
    assert list(again.verify()) == []
    again.close()


@pytest.mark.parametrize("place", ["index.before_build", "index.before_swap"])
def test_writes_and_searches_go_on_during_a_build(tmp_path: Path, place: str) -> None:
    """While an index is being built, what is written and deleted is searched at once, and still so after the swap."""
    slow = Hold(place)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL, failpoints=slow)
    collection = default(catalogue)
    fill(collection, 0, 100)
    assert slow.reached.wait(30)
    assert collection.info().indexing
    assert collection.info().index.action == "build"

    def state() -> list[str]:
        return [best(collection, seed) for seed in (2, 150, 3000)]

    fill(collection, 100, 160)
    put(collection, entry("i7", 3000))
    collection.delete(["i1", "i101"])
    before = state()
    slow.go.set()
    settled(collection)
    assert collection.info().index_kind == "ivf-rabitq"
    assert state() == before == ["i2", "i150", "i7"]
    assert not {"i1", "i101"} & {m.item.id for m in collection.search(vector(1), limit=500).matches}
    assert list(catalogue.verify()) == []
    catalogue.close()


def test_searches_beside_writes_and_merges(tmp_path: Path) -> None:
    """Searches that run while items are written, deleted, merged and rebuilt find every item that always stood."""
    catalogue = EmbeddedCatalogue.open(
        tmp_path, policy=Policy(compress_from=50, merge_from=8, growth=1.3, save_from=50)
    )
    collection = default(catalogue)
    fill(collection, 0, 100)
    stop = threading.Event()
    errors: list[str] = []

    def search() -> None:
        rng = np.random.default_rng(0)
        while not stop.is_set():
            seed = int(rng.integers(0, 100))
            try:
                if best(collection, seed) != f"i{seed}":
                    errors.append(f"i{seed}")
            except Exception as error:  # noqa: BLE001 - reported by the assertion below
                errors.append(repr(error))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(100, 400, 5):
        fill(collection, n, n + 5)
        collection.delete([f"i{n}"])
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    settled(collection)
    assert collection.info().index.trained > 100
    catalogue.close()


def test_policy() -> None:
    """Exact below the size, built at it, merged, saved and rebuilt by the figures alone."""
    policy = Policy(compress_from=1000, merge_from=10, save_from=50)
    assert policy.next(Figures(compressed=False, alive=999)) is None
    assert policy.next(Figures(compressed=False, alive=1000)) is Action.BUILD
    assert (
        policy.next(Figures(compressed=True, alive=1005, indexed=1000, tail=5, dead=0, trained=1000, unsaved=5)) is None
    )
    assert (
        policy.next(Figures(compressed=True, alive=1010, indexed=1000, tail=10, dead=0, trained=1000, unsaved=10))
        is Action.MERGE
    )
    assert (
        policy.next(Figures(compressed=True, alive=1060, indexed=1060, tail=0, dead=0, trained=1000, unsaved=60))
        is Action.SAVE
    )
    assert (
        policy.next(Figures(compressed=True, alive=2001, indexed=2001, tail=0, dead=0, trained=1000, unsaved=0))
        is Action.BUILD
    )
    assert (
        policy.next(Figures(compressed=True, alive=700, indexed=1000, tail=0, dead=300, trained=1000, unsaved=0))
        is Action.BUILD
    )
    assert (
        policy.next(
            Figures(compressed=True, alive=1200, indexed=1200, tail=0, dead=0, trained=1000, unsaved=0, agreement=0.9)
        )
        is Action.BUILD
    )
    assert (
        policy.next(
            Figures(compressed=True, alive=1050, indexed=1050, tail=0, dead=0, trained=1000, unsaved=0, agreement=0.9)
        )
        is None
    )
    assert (
        policy.next(Figures(compressed=True, alive=200, indexed=210, tail=0, dead=10, trained=200, unsaved=0))
        is Action.BUILD
    )


def clustered(count: int, dim: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((300, dim), dtype=np.float32)
    rows = centres[rng.integers(0, 300, count)] + 0.8 * rng.standard_normal((count, dim), dtype=np.float32)
    unit_rows: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit_rows


@pytest.mark.slow
def test_recall(tmp_path: Path) -> None:
    """On 20,000 vectors the ten nearest are found, 0.99 of them at least:

    unfiltered and for every share a filter keeps.
    """
    rows = clustered(20_100, 256)
    rows, queries = rows[:20_000], rows[20_000:]
    catalogue = EmbeddedCatalogue.open(tmp_path)
    collection, _ = catalogue.create("big", model="m", fingerprint="f", dim=256)
    shares = np.random.default_rng(1).random(len(rows))
    collection.import_vectors(
        [f"i{n}" for n in range(len(rows))], rows, [{"s": float(s)} for s in shares], fingerprint="f"
    )
    settled(collection)
    assert collection.info().index_kind == "ivf-rabitq"
    truth = queries.astype(np.float64) @ rows.T.astype(np.float64)
    for keep in (1.0, 0.5, 0.1, 0.01, 0.001):
        passing = np.flatnonzero(shares < keep)
        filter = parse_filter({"must": [{"key": "s", "range": {"lt": keep}}]})
        hits = 0
        for number, query in enumerate(queries):
            found = collection.search(query, limit=10, filter=filter)
            assert found.filtered_count == len(passing)
            expected = passing[np.argsort(-truth[number, passing])[:10]]
            hits += len({m.item.id for m in found.matches} & {f"i{n}" for n in expected})
            for match in found.matches:
                assert abs(truth[number, int(match.item.id[1:])] - match.score) < 2e-4
        assert hits / (len(queries) * min(10, len(passing))) >= 0.99, f"recall with {keep:.1%} of the items"
    catalogue.close()


@pytest.mark.slow
def test_space_is_given_back(tmp_path: Path) -> None:
    """After most items are deleted, database and vector file shrink to the order of what is left."""
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    collection = default(catalogue)
    collection.import_vectors(
        [f"i{n}" for n in range(6000)],
        np.stack([vector(n % 50) for n in range(6000)]),
        [{"pad": "x" * 2000}] * 6000,
        fingerprint=MODEL["fingerprint"],
    )
    settled(collection)
    catalogue.close()
    before = size(tmp_path)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    collection = default(catalogue)
    collection.delete([f"i{n}" for n in range(5500)])
    settled(collection)
    catalogue.close()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    deadline = time.monotonic() + 20
    while size(tmp_path) > before / 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    catalogue.close()
    assert size(tmp_path) < before / 4
    assert len(list(tmp_path.glob("index/*/*"))) == 1


def size(directory: Path) -> int:
    return sum(p.stat().st_blocks * 512 for p in directory.rglob("*") if p.is_file())


def test_opened_without_indexes(tmp_path: Path) -> None:
    """Work that never searches leaves the index files alone; the next load catches up with what it wrote."""
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    fill(default(catalogue), 0, 100)
    settled(default(catalogue))
    catalogue.close()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL, indexes=False)
    collection = default(catalogue)
    fill(collection, 100, 400)
    collection.delete(["i3", "i103"])
    assert collection.count(parse_filter({"must": [{"key": "even", "match": True}]})) == 200
    with pytest.raises(IndexNotReady):
        collection.search(vector(1))
    assert list(catalogue.verify()) == []
    catalogue.close()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    collection = default(catalogue)
    assert collection.ready
    assert [best(collection, seed) for seed in (4, 104, 399)] == ["i4", "i104", "i399"]
    assert collection.search(vector(103)).best_score < 0.9  # type: ignore[operator]
    catalogue.close()


@pytest.mark.slow
def test_close_does_not_wait_for_a_build(tmp_path: Path) -> None:
    """A build that cannot be interrupted is left behind by close; its late end harms nobody."""
    slow = Hold("index.before_build")
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SMALL, failpoints=slow)
    fill(default(catalogue), 0, 100)
    assert slow.reached.wait(30)
    began = time.monotonic()
    catalogue.close()
    assert time.monotonic() - began < 20
    again = EmbeddedCatalogue.open(tmp_path, policy=SMALL)
    settled(default(again))
    slow.go.set()
    time.sleep(0.5)
    assert best(default(again), 42) == "i42"
    assert list(again.verify()) == []
    again.close()


def test_few_dimensions_stay_exact_however_many_items(tmp_path: Path) -> None:
    """Below 64 dimensions float16 rows would miss the promised 2e-4: such a collection is never compressed."""
    rows = clustered(600, 8)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=Policy(compress_from=100))
    collection, _ = catalogue.create("small", model="m", fingerprint="f", dim=8)
    collection.import_vectors([f"i{n}" for n in range(len(rows))], rows, [{} for _ in rows], fingerprint="f")
    settled(collection)
    assert collection.info().index_kind == "flat"
    for number in range(0, 600, 50):
        (found,) = collection.nearest(rows[number : number + 1], 1)
        assert found.ids == [f"i{number}"] and abs(found.scores[0] - 1) < 1e-6
    catalogue.close()


def test_a_filter_stays_right_when_items_change_while_its_selection_is_made(tmp_path: Path) -> None:
    """What a search made of a filter before a change is not used after it, even if it was put away after it."""
    rows = clustered(4_000, 64)
    failpoints = Doing()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=Policy(compress_from=500), failpoints=failpoints)
    collection, _ = catalogue.create("many", model="m", fingerprint="f", dim=64)
    ids = [f"i{n}" for n in range(len(rows))]
    collection.import_vectors(ids, rows, [{"brand": "x" if n % 2 else "y"} for n in range(len(rows))], fingerprint="f")
    settled(collection)
    only = parse_filter({"must": [{"key": "brand", "match": "x"}]})
    # While the selection is on its way to where it is kept:
    failpoints.arm("index.selected", lambda: collection.merge_metadata("i1", {"brand": "y"}))
    collection.search(rows[1], limit=5, filter=only)
    assert failpoints.times == 0
    found = collection.search(rows[1], limit=5, filter=only)
    assert "i1" not in [match.item.id for match in found.matches]
    assert found.filtered_count == 1_999
    catalogue.close()


@pytest.mark.parametrize("way", ["backwards", "strided", "column", "unaligned", "float64", "list"])
def test_a_query_may_lie_in_memory_as_it_likes(way: str) -> None:
    """Unit length of the same numbers, whatever the array's strides, alignment and type."""
    rows = np.random.default_rng(1).standard_normal((5, 256)).astype(np.float32)
    rows[4] *= 30  # what lies behind the row must not be read
    raw = bytearray(b"x" + rows[3].tobytes())
    query: Any = {
        "backwards": rows[3][::-1],
        "strided": rows[3:].reshape(-1)[::2],
        "column": np.asfortranarray(rows)[3],
        "unaligned": np.frombuffer(raw, np.float32, offset=1),
        "float64": rows[3].astype(np.float64),
        "list": rows[3].tolist(),
    }[way]
    expected = np.asarray(query, np.float64) / np.linalg.norm(np.asarray(query, np.float64))
    np.testing.assert_allclose(unit_query(query, 256), expected, atol=1e-6)


def test_a_removed_item_stays_gone_while_the_rows_around_it_are_merged(tmp_path: Path) -> None:
    """A merge that falls between the two halves of a search, the compressed part and the newer rows."""
    rows = clustered(1_200, 64)
    failpoints = Doing()
    policy = Policy(compress_from=500, merge_from=250)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=policy, failpoints=failpoints)
    collection, _ = catalogue.create("many", model="m", fingerprint="f", dim=64)

    def add(first: int, stop: int) -> None:
        ids = [f"i{n}" for n in range(first, stop)]
        collection.import_vectors(ids, rows[first:stop], [{} for _ in ids], fingerprint="f")
        settled(collection)

    add(0, 900)
    add(900, 1_100)
    assert collection.info().index.tail == 200
    collection.delete(["i1000"])
    failpoints.arm("index.between_parts", lambda: add(1_100, 1_200))
    (found,) = collection.nearest(rows[1_000:1_001], 20)
    assert failpoints.times == collection.info().index.tail == 0 and len(found.ids) == 20
    assert "i1000" not in found.ids
    catalogue.close()
