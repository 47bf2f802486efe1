"""Recall is measured against the exact answer, and a search is made as hard as it takes: no harder, and not less."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.embedded.ann import measure
from index.embedded.ann.basis import Shape
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.effort import Effort
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.measure import Found
from index.embedded.ann.recall import Recall, compare, interval, true_scores
from index.embedded.ann.sample import Sample, as_far_as
from index.embedded.ann.train import held_out
from index.embedded.ann.tuning import Tried, Tuning, tune
from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.live.upkeep.asked import Asked
from index.embedded.live.upkeep.measured import Measured
from index.embedded.live.upkeep.policy import Policy
from index.errors import CacheUnusable, InvalidRecall
from index.info import IndexState
from tests.harness.catalogues import entry, settled
from tests.harness.soak import SOAK, examples

Floats = npt.NDArray[np.float32]


def unit(rows: npt.NDArray[np.floating]) -> Floats:
    normed: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return normed


def hard(count: int, seed: int, dim: int = 512) -> Floats:
    """Weak groups in noise that fills all axes: half of the variance lies outside those that are kept as codes."""
    centres = np.random.default_rng(9).standard_normal((100, dim))
    random = np.random.default_rng(seed)
    return unit(centres[random.integers(0, 100, count)] * 0.4 + random.standard_normal((count, dim)))


def easy(count: int, seed: int, dim: int = 64) -> Floats:
    """Tight groups."""
    centres = np.random.default_rng(9).standard_normal((300, dim))
    random = np.random.default_rng(seed)
    return unit(centres[random.integers(0, 300, count)] + 0.1 * random.standard_normal((count, dim)))


def blocks(rows: Floats, size: int = 64) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    for start in range(0, len(rows), size):
        yield np.arange(start, min(start + size, len(rows))), rows[start : start + size]


@settings(deadline=None, max_examples=examples(40))
@given(st.integers(1, 200), st.integers(0, 10), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_true_scores_are_numpys(count: int, asked: int, k: int, seed: int) -> None:
    """In blocks of any size; a query that is one of the rows leaves itself out, and only itself."""
    random = np.random.default_rng(seed)
    rows = unit(random.standard_normal((count, 8)))
    rows[: count // 3] = rows[0]  # equal ones
    own = random.integers(-1, count, asked)
    queries = np.where(own[:, None] >= 0, rows[own], unit(random.standard_normal((asked, 8)))).astype(np.float32)
    found = true_scores(queries, blocks(rows, 1 + seed % 50), own, k)
    for query, mine, scores in zip(queries, own, found, strict=True):
        expected = np.sort(np.delete(rows @ query, mine) if mine >= 0 else rows @ query)[::-1][:k]
        np.testing.assert_allclose(scores[: len(expected)], expected, atol=1e-5)
        assert np.isneginf(scores[len(expected) :]).all()


def test_equal_neighbours_count_as_found_whichever_came_back() -> None:
    """What counts is how near they are; places that nothing could fill are not missed."""
    none = -np.inf
    truth = np.array([[0.9, 0.8, 0.8], [0.7, none, none], [none, none, none]], np.float32)
    assert compare(truth, truth).value == 1
    worse = np.array([[0.9, 0.8, 0.1], [0.7, none, none], [none, none, none]], np.float32)
    found = compare(worse, truth)
    assert found.value == pytest.approx(3 / 4) and found.queries == 2
    assert found.low < found.value < found.high
    nothing = compare(np.full((2, 3), none, np.float32), np.full((2, 3), none, np.float32))
    assert (nothing.queries, nothing.low, nothing.high) == (0, 0, 1)


@pytest.mark.parametrize(
    ("right", "trials", "low", "high"), [(0, 10, 0, 0.3085), (5, 10, 0.1871, 0.8129), (9, 9, 0.6637, 1)]
)
def test_the_exact_interval(right: int, trials: int, low: float, high: float) -> None:
    """Against published values."""
    np.testing.assert_allclose(interval(right / trials, trials), (low, high), atol=1e-3)


@pytest.mark.parametrize("together", [1, 5, 10])
@pytest.mark.parametrize("share", [0.9, 0.98, 0.995, 0.998])
def test_the_interval_holds_the_truth(share: float, together: int) -> None:
    """In nine of ten samples at least, whether neighbours are missed one by one or several of one query at a time."""
    random = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        if together > 1:
            missed = (random.random((250, 1)) < 10 / together * (1 - share)) & (np.arange(10) < together)
        else:
            missed = random.random((250, 10)) > share
        truth = np.tile(np.linspace(0.9, 0.5, 10, dtype=np.float32), (250, 1))
        recall = compare(np.where(missed, -np.inf, truth).astype(np.float32), truth)
        held += recall.low <= share <= recall.high
    assert held >= 180


def attempts(needs_breadth: float, needs_depth: float, ceiling: float = 1.0) -> tuple[list[Tuning], object]:
    tried: list[Tuning] = []

    def attempt(tuning: Tuning) -> Tried:
        tried.append(tuning)
        value = ceiling * min(1, tuning.breadth / needs_breadth) ** 0.1 * min(1, tuning.depth / needs_depth) ** 0.1
        low, high = interval(value, 2_000)
        return Tried(
            tuning, Recall(value, low, high, 250, (value - low) / 2), 100 * tuning.breadth + 100 * tuning.depth
        )

    return tried, attempt


@pytest.mark.parametrize("breadth", [0.3, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("depth", [0.3, 1.0, 3.0, 8.0])
def test_the_part_that_is_lacking_is_raised(breadth: float, depth: float) -> None:
    """Reached in few attempts, at not much more than the least cost that reaches it."""
    tried, attempt = attempts(breadth, depth)
    found = tune(attempt, 0.98, 10_000)  # type: ignore[arg-type]
    assert found.recall.careful >= 0.98
    least = 100 * max(0.5, breadth * 0.85) + 100 * max(0.5, depth * 0.85)
    assert found.cost <= 2.3 * least
    assert len(tried) <= 30


def test_what_cannot_be_reached_or_costs_too_much() -> None:
    """The best within the cost, never beyond it; nothing is tried for ever."""
    tried, attempt = attempts(100, 100)
    found = tune(attempt, 0.999, 1_000)  # type: ignore[arg-type]
    assert found.cost <= 1_000 and found.recall.careful < 0.999
    _, attempt = attempts(1, 1, ceiling=0.7)
    assert tune(attempt, 0.99, 1_000).recall.value == pytest.approx(0.7)  # type: ignore[arg-type]
    assert len(tried) < 40


def test_a_tuning_changes_an_effort_and_a_filter_never_lessens_it() -> None:
    effort = Effort(lists=20, depth=150, reach=2.0, most=128)
    assert Tuning().apply(effort) is effort
    harder = Tuning(breadth=2.0, depth=3.0).apply(effort)
    assert (harder.lists, harder.most, harder.depth, harder.reach) == (40, 256, 450, 3.0)
    less = Tuning(breadth=0.5, depth=0.5)
    assert less.apply(effort).depth == 75
    assert less.apply(effort, filtered=True) == effort


def test_held_out_rows_are_always_the_same_and_leave_enough() -> None:
    for count in (0, 7, 8, 100, 5_000, 100_000):
        rows = held_out(count)
        assert len(rows) == min(512, count // 8)
        assert (np.diff(rows) > 0).all() and (len(rows) == 0 or 0 <= rows[0] <= rows[-1] < count)
        np.testing.assert_array_equal(rows, held_out(count))


_MADE: dict[int, CompressedIndex] = {}


def built_once(file: VectorFile) -> CompressedIndex:
    """One index of a file for all made-up cases."""
    if id(file) not in _MADE:
        _MADE[id(file)] = CompressedIndex.build(file)
    return _MADE[id(file)]


@pytest.fixture(scope="module")
def hard_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorFile]:
    with VectorFile.create(tmp_path_factory.mktemp("hard") / "v", dim=512, fingerprint="f") as file:
        file.append(np.arange(1, 10_001), hard(10_000, 1))
        yield file


def true_recall(index: CompressedIndex, rows: Floats, queries: Floats) -> float:
    """Of queries the index never saw, by numpy."""
    right = 0
    for query in queries:
        last = np.sort(rows @ query)[-10]
        right += int((index.nearest(query, 10)[0] >= last - 2e-4).sum())
    return right / (10 * len(queries))


@pytest.mark.slow
def test_a_hard_catalogue_gets_the_recall_that_was_asked_for(hard_file: VectorFile) -> None:
    """The usual effort finds too few here; the measured one finds what was asked for, and measures the truth."""
    rows, queries = hard_file.read(np.arange(10_000)).astype(np.float32), hard(300, 2)
    usual = CompressedIndex.build(hard_file, shape=Shape(256))
    assert true_recall(usual, rows, queries) < 0.985
    made = measure.built(hard_file, 0.99, threads=2, progress=lambda done, total: None)
    index, tried = made.index, made.found
    index.tuning = tried.tuning
    assert not tried.tuning.exact
    true = true_recall(index, rows, queries)
    assert true >= 0.98  # a busy machine leaves time for fewer queries, and these are a sample too
    assert tried.recall.low - 0.01 < true < tried.recall.high + 0.01


def test_an_easy_catalogue_is_searched_with_less_than_usual(tmp_path: Path) -> None:
    with VectorFile.create(tmp_path / "v", dim=64, fingerprint="f") as file:
        file.append(np.arange(1, 10_001), easy(10_000, 1))
        index = CompressedIndex.build(file)
        drawn = Sample.draw(index, file, np.empty((0, 64), np.float32), lambda: None)
        tried = measure.measure(
            index, file, drawn, 0.95, breathe=lambda: None
        )  # which, unlike a build, has no time limit
        assert tried.tuning.breadth < 1 or tried.tuning.depth < 1
        index.tuning = tried.tuning
        assert true_recall(index, file.read(np.arange(10_000)).astype(np.float32), easy(200, 2)) >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize("what", ["noise", "a recall of one"])
def test_where_nothing_reaches_it_all_vectors_are_compared(tmp_path: Path, what: str) -> None:
    """Noise has no neighbours to distinguish, and a recall of exactly one can be had of exact search alone."""
    rows = easy(4_000, 1) if what == "a recall of one" else unit(np.random.default_rng(1).standard_normal((4_000, 512)))
    with VectorFile.create(tmp_path / "v", dim=rows.shape[1], fingerprint="f") as file:
        file.append(np.arange(1, 4_001), rows)
        target = 1.0 if what == "a recall of one" else 0.995
        made = measure.built(file, target, threads=2, progress=lambda done, total: None)
        index, tried = made.index, made.found
        assert tried.tuning.exact and tried.recall.value == 1
        index.tuning = tried.tuning
        assert true_recall(index, file.read(np.arange(4_000)).astype(np.float32), rows[:50]) == 1


@pytest.mark.parametrize("rows", ["equal", "three", "two dimensions"])
def test_odd_catalogues_are_measured_too(tmp_path: Path, rows: str) -> None:
    """All vectors equal, three of them repeated, two dimensions: measured, and every neighbour is as near as can be."""
    random = np.random.default_rng(3)
    made = {
        "equal": np.ones((3_000, 64)),
        "three": random.standard_normal((3, 64))[random.integers(0, 3, 3_000)],
        "two dimensions": random.standard_normal((3_000, 2)),
    }[rows]
    with VectorFile.create(tmp_path / "v", dim=made.shape[1], fingerprint="f") as file:
        file.append(np.arange(1, 3_001), unit(made))
        found = measure.built(file, 0.99, threads=1, progress=lambda done, total: None).found
        assert found.recall.value >= 0.99 and (found.tuning.exact or found.recall.queries >= 128)


SAMPLED = Recall(0.99, 0.98, 0.995, 250, 0.004)
MANY = 100_000 if SOAK else 20_000
MEASURED = Measured(Found(Tuning(1.5, 0.5), SAMPLED, ((0.1, SAMPLED),), True), Shape(256), 0.995, 0.995, 1.0)


def test_what_was_measured_comes_back_and_damage_does_not(tmp_path: Path) -> None:
    """Cut, changed, foreign, missing, or another version's: measured again, never believed."""
    path = tmp_path / "recall"
    MEASURED.write(path)
    assert Measured.read(path) == MEASURED
    whole = path.read_bytes()
    body = json.dumps({"recall": {"value": 1}, "tuning": {}, "target": 1, "at": 1}).encode()
    for content in (b"", whole[:-3], whole.replace(b"0.99,", b"0.98,"), b"a note", b"%08x" % zlib.crc32(body) + body):
        path.write_bytes(content)
        with pytest.raises(CacheUnusable):
            Measured.read(path)
    path.unlink()
    with pytest.raises(CacheUnusable):
        Measured.read(path)


def state_of(directory: Path, rows: Floats, first: int, policy: Policy) -> IndexState:
    catalogue = EmbeddedCatalogue.open(directory, policy=policy)
    collection, _ = catalogue.create("c", model="m", fingerprint="f", dim=rows.shape[1])
    if len(rows):
        ids = [f"i{first + n}" for n in range(len(rows))]
        collection.import_vectors(ids, rows, None, fingerprint="f")
    state = settled(collection, 120)
    catalogue.close()
    return state


@pytest.mark.slow
def test_recall_is_shown_survives_a_restart_and_follows_growth(tmp_path: Path) -> None:
    """The same figures after a restart; measured anew once enough of another kind was merged."""
    policy = Policy(compress_from=5_000, merge_from=512, growth=10)
    first = state_of(tmp_path, easy(8_000, 1, 512), 0, policy)
    assert first.recall is not None and first.effort is not None
    assert first.recall.low <= first.recall.value <= first.recall.high and first.recall.queries >= 128
    again = state_of(tmp_path, np.empty((0, 512), np.float32), 0, policy)
    assert (again.recall, again.effort) == (first.recall, first.effort)
    grown = state_of(tmp_path, hard(6_000, 2), 8_000, policy)
    assert grown.recall is not None and grown.effort is not None
    assert grown.recall.measured_at > first.recall.measured_at
    assert grown.trained > 8_000 or grown.effort != first.effort


def test_a_recall_set_by_hand_is_kept_and_goes_with_null(tmp_path: Path) -> None:
    """In the store, for this collection alone; what is no share is refused and changes nothing."""
    catalogue = EmbeddedCatalogue.open(tmp_path, recall=0.97)
    one, other = (catalogue.create(name, model="m", fingerprint="f", dim=64)[0] for name in ("one", "other"))
    one.set_recall(0.9)
    for wrong in (0, 0.49, 1.01, float("nan"), True, "0.9"):
        with pytest.raises(InvalidRecall, match=r"from 0\.5 to 1"):
            one.set_recall(wrong)  # type: ignore[arg-type]
    assert (one.recall, other.recall) == (0.9, None)
    catalogue.close()
    catalogue = EmbeddedCatalogue.open(tmp_path)
    told = {info.name: (info.recall, info.recall_set) for info in catalogue.infos()}
    assert told == {"one": (0.9, True), "other": (0.995, False)}
    catalogue.get("one").set_recall(None)
    assert (catalogue.get("one").info().recall, catalogue.get("one").recall) == (0.995, None)
    catalogue.close()


@pytest.mark.slow
def test_another_recall_makes_searches_as_hard_as_it_takes(tmp_path: Path) -> None:
    """1 compares every vector, less brings the lists back, more than was built for builds anew."""
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=Policy(compress_from=5_000, recall=0.9))
    collection, _ = catalogue.create("c", model="m", fingerprint="f", dim=512)
    collection.import_vectors([f"i{n}" for n in range(10_000)], hard(10_000, 1), None, fingerprint="f")
    first = settled(collection, 120)
    assert first.effort is not None and not first.effort.exact and first.work["build"].runs >= 1
    collection.set_recall(1.0)
    exact = settled(collection, 120)
    assert exact.effort is not None and exact.effort.exact and exact.recall is not None and exact.recall.value == 1
    assert exact.work["build"].runs == first.work["build"].runs
    found = [set(each.ids) for each in collection.nearest(hard(20, 2), 10)]
    truth = np.argsort(-(hard(20, 2) @ hard(10_000, 1).T), axis=1)[:, :10]
    assert sum(len(ids & {f"i{n}" for n in row}) for ids, row in zip(found, truth.tolist(), strict=True)) >= 199
    collection.set_recall(0.8)
    less = settled(collection, 120)
    assert less.effort is not None and not less.effort.exact
    catalogue.close()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=Policy(compress_from=5_000, recall=0.9))
    again = settled(catalogue.get("c"), 120)
    assert (again.effort, again.recall) == (less.effort, less.recall)
    catalogue.get("c").set_recall(0.999)
    more = settled(catalogue.get("c"), 240)
    assert more.recall is not None and more.effort is not None
    assert more.effort.exact or more.recall.value >= 0.999
    catalogue.close()


def test_real_queries_are_kept_with_the_index(tmp_path: Path) -> None:
    """The latest of them, across a restart; a damaged file is collected anew."""
    rows = easy(2_000, 1, 64)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=Policy(compress_from=500))
    collection, _ = catalogue.create("c", model="m", fingerprint="f", dim=64)
    collection.import_vectors([f"i{n}" for n in range(2_000)], rows, None, fingerprint="f")
    settled(collection)
    queries = easy(150, 2, 64)
    for query in queries:
        collection.search(query)
    collection.upsert([entry("last", 5)], fingerprint="f")
    catalogue.close()
    [path] = (tmp_path / "index").glob("*/*/asked")
    asked = Asked()
    asked.read(path, 64)
    np.testing.assert_allclose(asked.queries(64), queries[-128:], atol=1e-3)
    whole = path.read_bytes()
    for content in (b"", whole[:-3], whole[:8] + b"x" + whole[9:], b"%08x" % zlib.crc32(b"") + b""):
        path.write_bytes(content)
        with pytest.raises(CacheUnusable):
            Asked().read(path, 64)
    path.write_bytes(whole)
    with pytest.raises(CacheUnusable):
        Asked().read(path, 63)
    path.write_bytes(whole[:-3])
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=Policy(compress_from=500))
    assert len(catalogue.get("c").nearest(rows[:1], 3)[0].ids) == 3
    catalogue.close()


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_rows_are_moved_as_far_away_as_real_queries_are(hard_file: VectorFile, noise: float) -> None:
    """Where queries are as near as rows nothing moves; else the medians of the best scores meet."""
    index = CompressedIndex.build(hard_file)
    rows = held_out(10_000)
    stored = hard_file.read(rows).astype(np.float32)
    apart = np.random.default_rng(5).standard_normal((64, 512)) * noise
    asked = unit(hard(64, 2) + apart)
    moved, part = as_far_as(index, stored, rows, asked)
    if not noise:
        assert part < 0.1
        return
    best = [index.nearest(query, 1)[0][0] for query in asked]
    mine = [
        index.nearest(query, 2)[0][index.nearest(query, 2)[1] != index.key_of(int(row))][0]
        for query, row in zip(moved[:48], rows[:48], strict=True)
    ]
    assert 0 < part <= 1
    assert abs(np.median(mine) - np.median(best)) < 0.03


@settings(deadline=None, max_examples=examples(30))
@given(
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, 0.5, 0.2]),
    st.builds(Effort, st.integers(1, 30), st.integers(1, 300), st.sampled_from([1.0, 2.0]), st.integers(1, 128)),
)
def test_a_cautious_search_ends_and_finds_no_less(
    hard_file: VectorFile, k: int, seed: int, kept: float | None, effort: Effort
) -> None:
    """Whatever it begins with, under a filter too: what is found is as good or better, and each row once."""
    index = built_once(hard_file)
    random = np.random.default_rng(seed)
    selection = None if kept is None else index.select(np.flatnonzero(random.random(10_000) < kept) + 1)
    query = hard(1, seed % 1000)[0]
    half = replace(effort, depth=max(1, effort.depth // 2))  # of the candidates, which are compared first
    plain, _ = index.nearest(query, k, selection, effort=half)
    for caution in (2, 8):
        scores, keys = index.nearest(query, k, selection, effort=replace(effort, caution=caution))
        assert len(np.unique(keys)) == len(keys) >= len(plain)
        assert (scores[: len(plain)] >= plain - 1e-6).all()


def test_caution_finds_the_few_that_lie_far_from_everything(tmp_path: Path) -> None:
    """Where most lie in one crowd, a query apart from it has its neighbours anywhere: a usual search misses them."""
    random = np.random.default_rng(2)
    crowd, apart = random.standard_normal(256), random.standard_normal((1_500, 256))
    rows = unit(np.concatenate([crowd + 0.4 * random.standard_normal((8_500, 256)), apart])[random.permutation(10_000)])
    queries = unit(random.standard_normal((60, 256)))
    with VectorFile.create(tmp_path / "v", dim=256, fingerprint="f") as file:
        file.append(np.arange(1, 10_001), rows)
        index = CompressedIndex.build(file)
        recalls = []
        for caution in (0, 2, 8):
            index.tuning = Tuning(caution=caution)
            recalls.append(true_recall(index, rows, queries))
        assert recalls[0] < recalls[1] <= recalls[2] and recalls[2] > 0.97


@settings(deadline=None, max_examples=examples(30))
@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 0.5, 0.05]))
def test_comparing_every_vector_is_numpys_answer(hard_file: VectorFile, k: int, seed: int, kept: float) -> None:
    """In order or row by row, whatever was removed and whatever a filter keeps."""
    random = np.random.default_rng(seed)
    index = built_once(hard_file)
    index.tuning = Tuning(exact=True)
    allowed = np.flatnonzero(random.random(10_000) < kept) + 1
    query = hard(1, seed % 1000)[0]
    scores, keys = index.nearest(query, k, index.select(allowed))
    rows = hard_file.read(allowed - 1).astype(np.float32)
    expected = np.sort(rows @ query)[::-1][:k]
    np.testing.assert_allclose(scores, expected, atol=2e-4)
    assert np.isin(keys, allowed).all() and len(np.unique(keys)) == len(keys)


@pytest.mark.slow
@pytest.mark.parametrize(("distinct", "recall"), [(3, 0.995), (1, 0.995), (3, 1.0)])
def test_many_of_a_few_vectors(tmp_path: Path, distinct: int, recall: float) -> None:
    """Three vectors over and over, or one: built, measured and searched like any, every neighbour as near as any."""
    random = np.random.default_rng(3)
    few = unit(random.standard_normal((distinct, 64)))
    numbers = random.integers(0, distinct, MANY)
    catalogue = EmbeddedCatalogue.open(tmp_path, recall=recall)
    collection, _ = catalogue.create("c", model="m", fingerprint="f", dim=64)
    collection.import_vectors([f"i{n}" for n in range(MANY)], few[numbers], None, fingerprint="f")
    state = settled(collection, 240)
    assert state.vectors == MANY and state.kind == "ivf-rabitq"
    assert state.recall is not None and state.recall.value >= 0.995
    for query in few:
        found = collection.search(query, limit=20)
        assert len(found.matches) == 20 and min(match.score for match in found.matches) > 0.9999
    assert collection.search(unit(random.standard_normal((1, 64)))[0], limit=5).best_score is not None
    catalogue.close()
