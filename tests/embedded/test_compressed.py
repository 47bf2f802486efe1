"""The compressed index finds what exact search finds, scores it exactly, and returns nothing removed or disallowed."""

from __future__ import annotations

import json
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.effort import Effort
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.search import EXACT_ROWS
from index.errors import CacheUnusable
from tests.harness.soak import examples

DIM = 256
COUNT = 20_000
PRINT = "histogram-1"


def unit(rows: np.ndarray) -> np.ndarray:
    unit_rows: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit_rows


def clustered(count: int, seed: int) -> np.ndarray:
    """Unit rows like embeddings: groups on a falling spectrum, none of them negative."""
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0]
    spread = (np.arange(DIM) + 4.0) ** -0.6
    centres = np.random.default_rng(1).standard_normal((200, DIM))
    random = np.random.default_rng(seed)
    own = random.standard_normal((count, DIM))
    rows = ((centres[random.integers(0, 200, count)] + 0.7 * own) * spread) @ axes
    return unit(np.maximum(rows + 0.05, 0))


def nearest(query: np.ndarray, vectors: np.ndarray, keys: np.ndarray, k: int) -> np.ndarray:
    return keys[np.argsort(-(vectors @ query), kind="stable")[:k]]


def recall(
    index: CompressedIndex, queries: np.ndarray, vectors: np.ndarray, keys: np.ndarray, k: int = 10, **how: object
) -> float:
    """Share of the true k nearest among `keys` that the index finds."""
    _, found = index.search(queries, k, **how)  # type: ignore[arg-type]
    expected = [nearest(query, vectors, keys, k) for query in queries]
    return float(np.mean([len(np.intersect1d(*pair)) / len(pair[1]) for pair in zip(found, expected, strict=True)]))


class Catalogue:
    """A file of `COUNT` vectors with the keys 1…COUNT, and an index over all of them."""

    def __init__(self, directory: Path) -> None:
        self.vectors = clustered(COUNT, seed=2)
        self.queries = clustered(100, seed=3)
        self.keys = np.arange(1, COUNT + 1)
        self.file = VectorFile.create(directory / "vectors", dim=DIM, fingerprint=PRINT)
        self.file.append(self.keys, self.vectors)
        self.index = CompressedIndex.build(self.file, threads=2)
        self.saved = directory / "index"
        self.index.save(self.saved, sequence=41)

    def copy(self) -> CompressedIndex:
        """An index of its own for a test that changes it."""
        return CompressedIndex.load(self.saved, self.file, fingerprint=PRINT, dim=DIM)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    made = Catalogue(tmp_path_factory.mktemp("catalogue"))
    yield made
    made.file.close()


def test_recall_of_twenty_thousand_vectors(catalogue: Catalogue) -> None:
    """At least 99 of 100 true nearest ten are found with the effort the index chooses itself."""
    assert recall(catalogue.index, catalogue.queries, catalogue.vectors, catalogue.keys) >= 0.99


def test_recall_of_a_hundred_results(catalogue: Catalogue) -> None:
    """A longer answer is no less complete."""
    assert recall(catalogue.index, catalogue.queries, catalogue.vectors, catalogue.keys, k=100) >= 0.98


def test_more_effort_finds_more(catalogue: Catalogue) -> None:
    """Effort travels with the search: one list finds less than all of them, and the next search is not affected."""
    arguments = (catalogue.index, catalogue.queries, catalogue.vectors, catalogue.keys)
    least = recall(*arguments, effort=Effort(lists=1, depth=10))
    most = recall(*arguments, effort=Effort(lists=10_000, depth=1_000))
    assert least < recall(*arguments) <= most
    assert most >= 0.999


def test_scores_are_exact_cosines(catalogue: Catalogue) -> None:
    """Every score is the float64 cosine of query and item to within 2e-4, and scores fall."""
    scores, keys = catalogue.index.search(catalogue.queries, 20)
    exact = np.einsum(
        "qd,qkd->qk", catalogue.queries.astype(np.float64), catalogue.vectors[keys - 1].astype(np.float64)
    )
    assert np.abs(scores - exact).max() < 2e-4
    assert (np.diff(scores, axis=1) <= 0).all()


def test_an_item_finds_itself_first(catalogue: Catalogue) -> None:
    """A stored vector as the query returns its own key with a score of one."""
    scores, keys = catalogue.index.search(catalogue.vectors[:200], 1)
    np.testing.assert_array_equal(keys[:, 0], catalogue.keys[:200])
    np.testing.assert_allclose(scores[:, 0], 1, atol=2e-4)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_recall_under_a_filter(catalogue: Catalogue, share: float) -> None:
    """With half, a tenth or a fiftieth of the items allowed, only those come back, and 99 of 100 of the nearest."""
    allowed = np.flatnonzero(np.random.default_rng(5).random(COUNT) < share) + 1
    selection = catalogue.index.select(allowed)
    assert len(selection) == len(allowed)
    _, found = catalogue.index.search(catalogue.queries, 10, selection)
    assert np.isin(found, allowed).all()
    assert (
        recall(catalogue.index, catalogue.queries, catalogue.vectors[allowed - 1], allowed, allowed=selection) >= 0.99
    )


def test_a_filter_that_keeps_only_what_lies_far_away(catalogue: Catalogue) -> None:
    """Items allowed are those least like the query: what comes back is as near as the nearest of them, to 0.005."""
    for query in catalogue.queries[:10]:
        similarity = catalogue.vectors @ query
        allowed = np.sort(np.argsort(similarity)[: 2 * EXACT_ROWS] + 1)
        scores, found = catalogue.index.search(query[None], 10, allowed)
        assert np.isin(found, allowed).all()
        np.testing.assert_allclose(scores[0], np.sort(similarity[allowed - 1])[::-1][:10], atol=5e-3)


def test_a_filter_that_leaves_out_the_lists_of_the_query(catalogue: Catalogue) -> None:
    """With all neighbours of the query disallowed, nine in ten of the nearest of a far group are found."""
    group = catalogue.vectors @ catalogue.vectors[123]
    allowed = np.sort(np.argsort(-group)[: 2 * EXACT_ROWS] + 1)
    selection = catalogue.index.select(allowed)
    far = catalogue.queries[np.argsort(catalogue.queries @ catalogue.vectors[123])[:20]]
    assert recall(catalogue.index, far, catalogue.vectors[allowed - 1], allowed, allowed=selection) >= 0.9


def test_few_allowed_keys_are_compared_one_by_one(catalogue: Catalogue) -> None:
    """A handful of keys gives exactly their order; unknown keys are passed over and missing places padded."""
    allowed = np.array([5, 77, 19_000, COUNT + 5])
    scores, found = catalogue.index.search(catalogue.queries[:1], 5, allowed)
    np.testing.assert_array_equal(
        found[0, :3], nearest(catalogue.queries[0], catalogue.vectors[allowed[:3] - 1], allowed[:3], 3)
    )
    np.testing.assert_array_equal(found[0, 3:], [-1, -1])
    assert np.isneginf(scores[0, 3:]).all()


def test_nothing_allowed_finds_nothing(catalogue: Catalogue) -> None:
    """An empty selection gives padding alone."""
    scores, keys = catalogue.index.search(catalogue.queries[:2], 3, np.empty(0, np.int64))
    assert (keys == -1).all()
    assert np.isneginf(scores).all()


def test_asking_for_everything_gives_everything(catalogue: Catalogue) -> None:
    """With k as large as the index, every key comes back once."""
    found = catalogue.index.search(catalogue.queries[:1], COUNT)[1][0]
    np.testing.assert_array_equal(np.sort(found), catalogue.keys)


def test_removed_keys_never_come_back(catalogue: Catalogue) -> None:
    """What was removed is gone from plain, filtered and exhaustive search; the rest is found as well as before."""
    index = catalogue.copy()
    selection = index.select(np.arange(1, COUNT + 1, 2))
    gone = np.unique(index.search(catalogue.queries, 5)[1])
    index.remove(gone)
    index.remove(np.append(gone, COUNT + 9))
    assert (len(index), len(index.alive())) == (COUNT - len(gone),) * 2
    kept = np.setdiff1d(catalogue.keys, gone)
    np.testing.assert_array_equal(index.alive(), kept)
    for allowed in (None, selection, index.select(kept)):
        assert not np.isin(index.search(catalogue.queries, 10, allowed)[1], gone).any()
    assert not np.isin(index.search(catalogue.queries[:1], COUNT)[1], gone).any()
    assert recall(index, catalogue.queries, catalogue.vectors[kept - 1], kept) >= 0.99


@pytest.mark.parametrize("k", [1, 10, 60])
def test_many_queries_at_once_are_answered_as_one_by_one(catalogue: Catalogue, k: int) -> None:
    """Before and after removals, and where nothing near is left."""
    index = catalogue.copy()
    for gone in (0, 3, 2):
        if gone:
            index.remove(catalogue.file.keys[::gone])
        queries = clustered(40, seed=91 + gone)
        scores, keys = index.nearest_of(queries, k)
        wanted_scores, wanted = index.search(queries, k)
        same = np.mean([len(np.intersect1d(*pair)) / k for pair in zip(keys, wanted, strict=True)])
        assert same > 0.99 and scores.shape == (40, k) and np.isfinite(scores).all()
        np.testing.assert_allclose(scores[:, 0], wanted_scores[:, 0], atol=1e-5)
        assert not np.isin(keys, catalogue.file.keys[::gone]).any() if gone else True


def test_removing_all_that_is_near_still_finds_the_rest(catalogue: Catalogue) -> None:
    """With the nearest two thousand removed, ten others come back, as near as the nearest of the rest to 0.005."""
    index = catalogue.copy()
    query = catalogue.queries[0]
    index.remove(nearest(query, catalogue.vectors, catalogue.keys, 2_000))
    scores, _ = index.search(query[None], 10)
    np.testing.assert_allclose(scores[0], np.sort(catalogue.vectors @ query)[::-1][2_000:2_010], atol=5e-3)


def test_merged_rows_are_found(tmp_path: Path) -> None:
    """Rows encoded beside searches and merged later are found like those from the build; a gap is refused."""
    vectors, queries = clustered(8_000, seed=4), clustered(50, seed=5)
    keys = np.arange(10, 16_010, 2)
    with VectorFile.create(tmp_path / "v", dim=DIM, fingerprint=PRINT) as file:
        file.append(keys[:6_000], vectors[:6_000])
        index = CompressedIndex.build(file, threads=1)
        file.append(keys[6_000:], vectors[6_000:])
        assert index.indexed == 6_000
        assert recall(index, queries, vectors[:6_000], keys[:6_000]) >= 0.98
        with pytest.raises(ValueError, match="from 6000"):
            index.merge(index.encode(6_001, 8_000))
        index.remove(keys[3:4])
        index.merge(index.encode(6_000, 7_000))
        index.add(keys[7_000:])
        assert (index.indexed, len(index), index.trained) == (8_000, 7_999, 6_000)
        index.save(tmp_path / "i", sequence=7)
        kept = np.delete(np.arange(8_000), 3)
        for one in (index, CompressedIndex.load(tmp_path / "i", file, fingerprint=PRINT, dim=DIM)):
            np.testing.assert_array_equal(one.alive(), keys[kept])
            assert recall(one, queries, vectors[kept], keys[kept]) >= 0.98


def test_a_saved_index_answers_like_the_one_that_was_saved(catalogue: Catalogue) -> None:
    """Loading brings back keys, scores, sequence and counts."""
    loaded = catalogue.copy()
    assert (loaded.sequence, loaded.trained, loaded.count) == (41, COUNT, COUNT)
    for one, other in zip(
        loaded.search(catalogue.queries, 10), catalogue.index.search(catalogue.queries, 10), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("offset", [0, 9, 40, 4_100, 5_000, 60_000, -1])
def test_damage_to_a_saved_index_is_noticed(catalogue: Catalogue, tmp_path: Path, offset: int) -> None:
    """One flipped bit in the header, the alive bits or the lists is found before any of it is interpreted."""
    content = bytearray(catalogue.saved.read_bytes())
    content[offset] ^= 1
    (tmp_path / "i").write_bytes(content)
    with pytest.raises(CacheUnusable):
        CompressedIndex.load(tmp_path / "i", catalogue.file, fingerprint=PRINT, dim=DIM)


@pytest.mark.parametrize("length", [0, 100, 4_096, 50_000])
def test_a_shortened_index_is_noticed(catalogue: Catalogue, tmp_path: Path, length: int) -> None:
    """A file that ends too early is refused."""
    (tmp_path / "i").write_bytes(catalogue.saved.read_bytes()[:length])
    with pytest.raises(CacheUnusable):
        CompressedIndex.load(tmp_path / "i", catalogue.file, fingerprint=PRINT, dim=DIM)


def changed_header(content: bytes, **changes: object) -> bytes:
    body = json.dumps(json.loads(content[12:4_096]) | changes).encode().ljust(4_084)
    return content[:8] + zlib.crc32(body).to_bytes(4, "little") + body + content[4_096:]


@pytest.mark.parametrize(
    "changes",
    [{"kind": "flat"}, {"fingerprint": "other"}, {"dim": 2}, {"rows": COUNT + 1}, {"last_key": 5}, {"unheard": 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_foreign_index_is_refused(catalogue: Catalogue, tmp_path: Path, changes: dict[str, object]) -> None:
    """Kind, model, size and last key of a header that is whole must fit the collection and its vector file."""
    (tmp_path / "i").write_bytes(changed_header(catalogue.saved.read_bytes(), **changes))
    with pytest.raises(CacheUnusable):
        CompressedIndex.load(tmp_path / "i", catalogue.file, fingerprint=PRINT, dim=DIM)


def test_a_missing_index_is_told(catalogue: Catalogue, tmp_path: Path) -> None:
    """No file is the same kind of error as a bad one."""
    with pytest.raises(CacheUnusable, match="cannot be read"):
        CompressedIndex.load(tmp_path / "nothing", catalogue.file, fingerprint=PRINT, dim=DIM)


def test_a_failed_save_leaves_the_old_file(catalogue: Catalogue, tmp_path: Path) -> None:
    """A save that cannot finish neither harms what was there nor leaves its own half behind."""
    index = catalogue.copy()
    index.save(tmp_path / "i", sequence=1)
    before = (tmp_path / "i").read_bytes()
    (tmp_path / "i.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        index.save(tmp_path / "i", sequence=2)
    assert (tmp_path / "i").read_bytes() == before


def test_damage_to_a_vector_is_an_error_not_an_answer(tmp_path: Path) -> None:
    """A candidate whose stored bytes changed on disk makes the search fail."""
    vectors = clustered(3_000, seed=6)
    with VectorFile.create(tmp_path / "v", dim=DIM, fingerprint=PRINT) as file:
        file.append(np.arange(1, 3_001), vectors)
        CompressedIndex.build(file, threads=1).save(tmp_path / "i", sequence=1)
    content = bytearray((tmp_path / "v" / "rows").read_bytes())
    content[4_096 + 7 * DIM * 2] ^= 1
    (tmp_path / "v" / "rows").write_bytes(content)
    with VectorFile.open(tmp_path / "v", dim=DIM, fingerprint=PRINT) as file:
        index = CompressedIndex.load(tmp_path / "i", file, fingerprint=PRINT, dim=DIM)
        with pytest.raises(CacheUnusable, match="row 7"):
            index.search(vectors[7][None], 3)


def test_searches_beside_removals_and_saves(catalogue: Catalogue, tmp_path: Path) -> None:
    """Searches beside removals and saves return no key that was removed before they began."""
    index = catalogue.copy()
    order = np.random.default_rng(8).permutation(catalogue.keys)[:4_000]
    removed = 0
    wrong: list[int] = []
    done = threading.Event()

    def look(seed: int) -> None:
        random = np.random.default_rng(seed)
        while not done.is_set():
            gone = order[:removed]
            found = index.search(catalogue.queries[random.integers(0, 100, 1)], 10)[1]
            wrong.extend(found[np.isin(found, gone)])

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for start in range(0, 4_000, 100):
        index.remove(order[start : start + 100])
        removed = start + 100
        if start % 1_000 == 0:
            index.save(tmp_path / "i", sequence=start)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(index) == COUNT - 4_000


@settings(deadline=None, max_examples=examples(25))
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 400)),
            st.tuples(st.just("remove"), st.integers(0, 5)),
            st.tuples(st.sampled_from(["reload", "search", "filter"]), st.integers(0, 99)),
        ),
        max_size=12,
    )
)
def test_any_order_of_operations_equals_numpy(catalogue: Catalogue, steps: list[tuple[str, int]]) -> None:
    """Adds, removals, reloads, searches and filters in any order: with full effort the answer is numpy's."""
    full = Effort(lists=10_000, depth=2_000)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        file = VectorFile.create(directory / "v", dim=DIM, fingerprint=PRINT)
        file.append(catalogue.keys[:2_000], catalogue.vectors[:2_000])
        index = CompressedIndex.build(file, threads=1)
        alive = list(range(1, 2_001))
        for step, number in [*steps, ("search", 0), ("filter", 1)]:
            if step == "add":
                first = len(file) + 1
                keys = np.arange(first, first + number)
                file.append(keys, catalogue.vectors[keys - 1])
                index.add(keys)
                alive += keys.tolist()
            elif step == "remove":
                gone = set(alive[number::7])
                index.remove(np.array(sorted(gone), np.int64))
                alive = [key for key in alive if key not in gone]
            elif step == "reload":
                index.save(directory / "i", sequence=number)
                index = CompressedIndex.load(directory / "i", file, fingerprint=PRINT, dim=DIM)
            else:
                query = catalogue.queries[number]
                among = np.array([key for key in alive if step == "search" or key % 3 == number % 3], np.int64)
                allowed = None if step == "search" else among
                scores, found = index.search(query[None], 5, allowed, effort=full)
                expected = np.sort(catalogue.vectors[among - 1] @ query)[::-1][:5]
                assert np.isin(found[0], among).all()
                np.testing.assert_allclose(scores[0][: len(expected)], expected, atol=2e-4)
        assert index.alive().tolist() == alive
        file.close()
