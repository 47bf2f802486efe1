"""Recall is measured against the exact answer, and a search is made as hard as it takes: no harder, and not less."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.embedded.ann import measure
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.effort import Effort
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.recall import Recall, compare, interval, true_scores
from index.embedded.ann.train import held_out
from index.embedded.ann.tuning import Tried, Tuning, tune
from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.live.upkeep.measured import Measured
from index.embedded.live.upkeep.policy import Policy
from index.errors import CacheUnusable
from index.info import IndexState
from tests.harness.catalogues import settled
from tests.harness.soak import examples

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
    ("right", "trials", "low", "high"), [(0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (9, 9, 0.7009, 1)]
)
def test_wilsons_interval(right: int, trials: int, low: float, high: float) -> None:
    """Against the published formula's values."""
    np.testing.assert_allclose(interval(right / trials, trials), (low, high), atol=1e-3)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("share", [0.9, 0.98, 0.995])
def test_the_interval_holds_the_truth(share: float, together: bool) -> None:
    """In nine of ten samples at least, whether neighbours are missed one by one or several of one query at a time."""
    random = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        if together:
            missed = np.where(random.random((250, 1)) < 2 * (1 - share), np.arange(10) < 5, False)
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
        return Tried(tuning, Recall(value, low, high, 250), 100 * tuning.breadth + 100 * tuning.depth)

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
        assert len(rows) == min(256, count // 8)
        assert (np.diff(rows) > 0).all() and (len(rows) == 0 or 0 <= rows[0] <= rows[-1] < count)
        np.testing.assert_array_equal(rows, held_out(count))


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
    usual = CompressedIndex.build(hard_file)
    assert true_recall(usual, rows, queries) < 0.985
    index, tried = measure.built(hard_file, 0.99, threads=2, progress=lambda done, total: None)
    index.tuning = tried.tuning
    assert not tried.tuning.exact
    assert true_recall(index, rows, queries) >= 0.985
    assert abs(true_recall(index, rows, queries) - tried.recall.value) < 0.01


def test_an_easy_catalogue_is_searched_with_less_than_usual(tmp_path: Path) -> None:
    with VectorFile.create(tmp_path / "v", dim=64, fingerprint="f") as file:
        file.append(np.arange(1, 10_001), easy(10_000, 1))
        index, tried = measure.built(file, 0.95, threads=2, progress=lambda done, total: None)
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
        index, tried = measure.built(file, target, threads=2, progress=lambda done, total: None)
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
        _, tried = measure.built(file, 0.99, threads=1, progress=lambda done, total: None)
        assert tried.recall.value >= 0.99 and tried.recall.queries > 200


MEASURED = Measured(Recall(0.99, 0.98, 0.995, 250), Tuning(1.5, 0.5), 0.995, 1.0)


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
    assert first.recall.low <= first.recall.value <= first.recall.high and first.recall.queries > 200
    again = state_of(tmp_path, np.empty((0, 512), np.float32), 0, policy)
    assert (again.recall, again.effort) == (first.recall, first.effort)
    grown = state_of(tmp_path, hard(6_000, 2), 8_000, policy)
    assert grown.recall is not None and grown.effort is not None
    assert grown.recall.measured_at > first.recall.measured_at
    assert grown.trained > 8_000 or grown.effort != first.effort
