"""Queries to measure with are a fair sample; measuring keeps within its time and out of the way of searches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.embedded.ann.basis import Shape
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.effort import Effort
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.measure import exactly
from index.embedded.ann.recall import true_scores
from index.embedded.ann.sample import Sample
from index.embedded.live.rwlock import ReadWriteLock
from index.embedded.live.upkeep.asked import Asked
from index.embedded.live.upkeep.measured import Measured
from index.embedded.live.upkeep.watch import Watch
from tests.embedded.test_recall import easy, hard
from tests.harness.soak import examples

NONE = np.empty((0, 64), np.float32)


@pytest.fixture(scope="module")
def hard_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorFile]:
    with VectorFile.create(tmp_path_factory.mktemp("hard") / "v", dim=512, fingerprint="f") as file:
        file.append(np.arange(1, 10_001), hard(10_000, 1))
        yield file


@pytest.fixture(scope="module")
def hard_index(hard_file: VectorFile) -> CompressedIndex:
    return CompressedIndex.build(hard_file)


@settings(deadline=None, max_examples=examples(30))
@given(
    st.integers(1, 40),
    st.integers(0, 9_999),
    st.sampled_from([1.0, 0.4]),
    st.builds(Effort, st.integers(1, 30), st.integers(1, 300), st.just(1.5), st.integers(1, 128), caution=st.just(2)),
)
def test_a_row_that_leaves_itself_out_takes_no_place(
    hard_file: VectorFile, hard_index: CompressedIndex, k: int, row: int, kept: float, effort: Effort
) -> None:
    """A stored vector asks as one that was never stored: it is not found, and as many others are."""
    index = hard_index
    query = hard_file.read([row])[0].astype(np.float32)
    allowed = np.flatnonzero(np.random.default_rng(row).random(10_000) < kept) + 1
    selection = None if kept == 1 else index.select(allowed)
    for hardness in (effort, Effort(10_000, 10_000)):
        scores, keys = index.nearest(query, k, selection, effort=hardness, own=row)
        assert row + 1 not in keys and len(np.unique(keys)) == len(keys)
        assert len(keys) == k or hardness is effort
    rows = hard_file.read(allowed - 1).astype(np.float32)
    expected = np.sort((rows @ query)[allowed != row + 1])[::-1][:k]
    np.testing.assert_allclose(scores, expected, atol=2e-4)


def test_with_little_time_there_are_fewer_queries_and_nothing_else_changes(tmp_path: Path) -> None:
    """Whatever block time runs out at, the last one too: each query that is left has its own true neighbours."""
    with VectorFile.create(tmp_path / "v", dim=64, fingerprint="f") as file:
        file.append(np.arange(1, 4_501), easy(4_500, 1))  # blocks of 4,096: the second is the last
        index = CompressedIndex.build(file)
        whole = Sample.draw(index, file, NONE, lambda: None)
        few = Sample.draw(index, file, NONE, lambda: None, seconds=0.0)
    assert len(whole.queries) == 512 and len(few.queries) == 256
    assert few.truth.shape == (256, 10) and all(one.truth.shape == (256, 10) for one in few.sifted)
    np.testing.assert_array_equal(few.own, whole.own[:256])
    np.testing.assert_allclose(few.truth, whole.truth[:256], atol=1e-5)


def test_rows_ask_by_their_share_and_those_that_choose_do_not_tell(tmp_path: Path) -> None:
    """A tenth that came after training is a tenth of the queries; the two halves share none."""
    with VectorFile.create(tmp_path / "v", dim=64, fingerprint="f") as file:
        file.append(np.arange(1, 9_001), easy(9_000, 1))
        index = CompressedIndex.build(file)
        file.append(np.arange(9_001, 10_001), easy(1_000, 2))
        index.add(np.arange(9_001, 10_001))
        drawn = Sample.draw(index, file, easy(20, 3), lambda: None)
        assert len(drawn.queries) == 512 and (drawn.own < 0).sum() == 20
        assert abs(int((drawn.own >= 9_000).sum()) - 49) <= 1
        halves = [drawn.half(0), drawn.half(1)]
        assert [len(half.queries) for half in halves] == [256, 256]
        own = [set(half.own[half.own >= 0].tolist()) for half in halves]
        assert not own[0] & own[1] and len(own[0] | own[1]) == 492
        for half in halves:
            every = ((rows, vectors.astype(np.float32)) for rows, vectors in file.blocks(index.alive_rows()))
            expected = true_scores(half.queries, every, half.own)
            np.testing.assert_allclose(half.truth, expected, atol=1e-5)
            assert all(len(sifted.truth) == 256 for sifted in half.sifted)


def test_measuring_lets_writes_and_searches_in_and_stops_when_told(tmp_path: Path) -> None:
    """At each step it takes a writer gets the lock; what stops it leaves the tuning that was there."""
    with VectorFile.create(tmp_path / "v", dim=1_024, fingerprint="f") as file:
        file.append(np.arange(1, 5_001), easy(5_000, 1, 1_024))
        index, lock, asked = CompressedIndex.build(file), ReadWriteLock(), Asked()
        watch = Watch(index, file, lock, asked)
        watch.wanted = 0.98
        here, on, steps = threading.Event(), threading.Event(), list[str]()

        def breathe() -> None:
            if len(steps) == 4:
                raise InterruptedError
            here.set()
            assert on.wait(60)
            on.clear()
            asked.note(easy(1, 3, 1_024)[0])  # someone searches: it gives way

        def run() -> None:
            with pytest.raises(InterruptedError):
                watch.measure(breathe)
            steps.append("stopped")

        before = index.tuning
        thread = threading.Thread(target=run)
        thread.start()
        for step in range(4):
            assert here.wait(60)
            here.clear()
            with lock.writing():
                steps.append(str(step))
            on.set()
        thread.join(60)
        assert steps == ["0", "1", "2", "3", "stopped"]
        assert watch.measured is None and index.tuning is before
        watch.measure(lambda: None)
        assert watch.measured is not None and watch.measured.recall.value >= 0.95


@pytest.mark.parametrize(("building", "queries"), [(float("inf"), 256), (0.0, 128)])
def test_measuring_again_takes_a_share_of_what_building_took(tmp_path: Path, building: float, queries: int) -> None:
    """That is known across restarts; where it was nothing, the fewest queries have to do."""
    with VectorFile.create(tmp_path / "v", dim=1_024, fingerprint="f") as file:
        file.append(np.arange(1, 5_001), easy(5_000, 1, 1_024))
        watch = Watch(CompressedIndex.build(file), file, ReadWriteLock(), Asked())
        watch.wanted = 0.98
        Measured.now(replace(exactly(0), building=building), Shape(64), 1.0, 0.0).write(tmp_path / "recall")
        watch.note(Measured.read(tmp_path / "recall"))
        watch.measure(lambda: None)
        assert watch.measured is not None
        assert watch.measured.recall.queries == queries and watch.measured.found.building == building
