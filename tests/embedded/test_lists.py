"""Which lists a query looks into, against numpy over all centroids."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.embedded.ann.lists import Lists, nearest_holding
from index.embedded.ann.scratch import Scratch

DIM, AXES = 96, 32


def made(number: int) -> tuple[Lists, np.ndarray]:
    """Lists around `number` centroids: most near each other, the last one alone and far from all."""
    random = np.random.default_rng(number)
    centroids = random.standard_normal((number, AXES)).astype(np.float32)
    centroids[-1] = 6.0
    turn = np.linalg.qr(random.standard_normal((DIM, AXES)))[0].T
    transform = faiss.LinearTransform(DIM, AXES, True)
    faiss.copy_array_to_vector(np.ascontiguousarray(turn, np.float32).ravel(), transform.A)
    faiss.copy_array_to_vector(np.zeros(AXES, np.float32), transform.b)
    transform.is_trained = True
    quantizer = faiss.IndexFlatL2(AXES)
    quantizer.add(centroids)
    ivf = faiss.IndexIVFRaBitQ(quantizer, AXES, number, faiss.METRIC_L2, True, 1)
    ivf.own_fields = True
    quantizer.this.disown()  # type: ignore[attr-defined]
    return Lists(transform, ivf), centroids


@pytest.fixture(scope="module", params=[64, 4_096])
def lists(request: pytest.FixtureRequest) -> tuple[Lists, np.ndarray]:
    return made(request.param)


def looked_into(lists: Lists, point: np.ndarray, least: int, most: int, reach: float) -> list[int]:
    scratch = Scratch(AXES)
    scratch.point[:] = point
    number = lists.nearest(scratch, least, most, reach)
    return [int(each) for each in scratch.lists[:number]]


def test_a_query_near_one_centroid_takes_few_lists_and_one_between_many_takes_more(
    lists: tuple[Lists, np.ndarray],
) -> None:
    """Never fewer than the least, never more than the most, nearest first."""
    known, centroids = lists
    near = looked_into(known, centroids[7] + 0.01, 4, 40, 1.8)
    between = looked_into(known, np.zeros(AXES, np.float32), 4, 40, 1.8)
    assert len(near) == 4 and near[0] == 7
    assert len(near) < len(between) <= 40
    assert looked_into(known, centroids[7] + 0.01, 1, 1, 1.8) == [7]


def test_a_query_far_from_everything_finds_the_lists_nearest_to_it(lists: tuple[Lists, np.ndarray]) -> None:
    """Groups of centroids would send it astray: there the lists are exactly numpy's."""
    known, centroids = lists
    for seed in range(20):
        point = (np.random.default_rng(seed).standard_normal(AXES) * 20).astype(np.float32)
        away = ((centroids - point) ** 2).sum(axis=1)
        found = looked_into(known, point, 16, 60, 2.0)
        np.testing.assert_allclose(np.sort(away[found]), np.sort(away)[:60], rtol=5e-3)
        assert len(set(found)) == 60


def test_most_of_the_true_nearest_lists_are_found(lists: tuple[Lists, np.ndarray]) -> None:
    """Where they are searched through groups, four of five even of centroids that lie at random."""
    known, centroids = lists
    hits = 0
    for seed in range(100):
        point = centroids[seed % 60] + np.random.default_rng(seed).standard_normal(AXES).astype(np.float32) * 0.3
        away = ((centroids - point) ** 2).sum(axis=1)
        hits += len(set(looked_into(known, point, 12, 12, 1.0)) & set(np.argsort(away)[:12].tolist()))
    assert hits >= 0.8 * 1_200


def test_all_lists_can_be_asked_for(lists: tuple[Lists, np.ndarray]) -> None:
    known, centroids = lists
    assert looked_into(known, centroids[0], 10_000, 1, 1.0) == list(range(len(centroids)))


def test_how_many_lists_are_within_reach(lists: tuple[Lists, np.ndarray]) -> None:
    known, centroids = lists
    point = centroids[3] * 0.5
    away = ((centroids - point) ** 2).sum(axis=1)
    expected = int((away <= 1.5 * away.min()).sum())
    assert abs(known.within(known.distances(point), point, 1.5) - expected) <= max(1, expected // 50)


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 300))
def test_lists_that_hold_enough_allowed_rows(seed: int, number: int, wanted: int) -> None:
    """The nearest ones whose rows add up, empty ones left out, whether few or all are sorted."""
    random = np.random.default_rng(seed)
    away = random.permutation(200).astype(np.float32)
    held = random.integers(0, 4, 200) * (random.random(200) < 0.5)
    order = np.argsort(away)
    reached = min(200, int(np.searchsorted(held[order].cumsum(), wanted)) + 1)
    found, looked = nearest_holding(away, held, wanted, number)
    assert found.tolist() == [each for each in order[:reached].tolist() if held[each] > 0]
    assert looked >= reached
