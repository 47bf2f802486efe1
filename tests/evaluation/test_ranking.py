"""Rankings judged: against the definitions, computed the long way, whatever the blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.evaluation.figures import OneAnswer, Seen, answered, figures, no_match, opis
from service.evaluation.ranking import AT_ONCE, BINS, Judged, Listed, Pairs, Ranked, rank
from tests.harness.soak import examples

Floats = npt.NDArray[np.float32]


def unit(rows: npt.NDArray[np.float64]) -> Floats:
    found: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def ranked(queries: Floats, wanted: list[str], vectors: Floats, listed: Listed, block: int, **more: object) -> Ranked:
    files = more.pop("files", [""] * len(wanted))

    def blocks() -> Iterator[Floats]:
        for start in range(0, len(vectors), block):
            yield vectors[start : start + block]

    return rank(queries, wanted, files, listed, blocks, by_id=bool(more.get("by_id")))  # type: ignore[arg-type]


def oracle(scores: Floats, right: npt.NDArray[np.bool_]) -> tuple[int, float]:
    """Place of the first right item and average precision, from the definition."""
    hits = right[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return int(np.flatnonzero(hits)[0]) + 1, float(precision[hits].mean())


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 20), st.sampled_from([1, 7, 64]))
@settings(max_examples=examples(40))
def test_figures_are_those_of_the_definition(seed: int, items: int, queries: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, asked = unit(rng.normal(size=(items, 8))), unit(rng.normal(size=(queries, 8)))
    labels = rng.integers(0, 4, items)
    wanted = [f"l{each}" if each < 4 else "" for each in rng.integers(0, 6, queries)]
    listed = Listed([f"i{n}" for n in range(items)], [(f"l{each}",) for each in labels], [""] * items)
    found = ranked(asked, wanted, vectors, listed, block)
    for number, judged in enumerate(found.judged):
        scores = asked[number] @ vectors.T
        order = np.argsort(-scores, kind="stable")
        assert judged.best == pytest.approx(scores.max(), abs=1e-6)
        assert [scores[place] for place in judged.nearest] == pytest.approx(scores[order][:10].tolist(), abs=1e-6)
        right = np.array([f"l{each}" == wanted[number] for each in labels])
        assert judged.relevant == (right.sum() if wanted[number] else 0)
        if judged.relevant:
            first, average = oracle(scores, right)
            assert judged.first == first
            assert judged.average_precision == pytest.approx(average, abs=1e-6)
        else:
            assert judged.first is None and judged.average_precision == 0
    for number, label in enumerate(found.classes):
        own = [f"l{each}" == label for each in labels]
        assert found.class_best[:, number] == pytest.approx((asked @ vectors[own].T).max(axis=1), abs=1e-6)


def test_queries_in_parts_are_judged_alike() -> None:
    rng = np.random.default_rng(2)
    vectors, asked = unit(rng.normal(size=(50, 8))), unit(rng.normal(size=(AT_ONCE + 3, 8)))
    wanted = ["a", "b", ""] * (len(asked) // 3) + ["b"] * (len(asked) % 3)
    listed = Listed([str(n) for n in range(50)], [("a",), ("b",)] * 25, [""] * 50)
    whole = ranked(asked, wanted, vectors, listed, 50)
    tail = ranked(asked[AT_ONCE:], wanted[AT_ONCE:], vectors, listed, 50)
    assert whole.judged[AT_ONCE:] == tail.judged and len(whole.judged) == len(asked)
    assert (whole.class_best[AT_ONCE:] == tail.class_best).all()
    assert whole.pairs.right.sum() == sum(each != "" for each in wanted) * 25
    assert whole.pairs.wrong.sum() == whole.pairs.right.sum()


def test_equal_scores_earn_no_credit() -> None:
    vectors = np.tile(unit(np.ones((1, 4))), (40, 1))
    listed = Listed([str(n) for n in range(40)], [("a" if n < 4 else "b",) for n in range(40)], [""] * 40)
    (judged,) = ranked(vectors[:1], ["a"], vectors, listed, 8).judged
    assert judged.average_precision == pytest.approx(0.1, abs=0.03), "a network that sees nothing is right by chance"


def test_a_query_that_is_in_the_catalogue_is_searched_without_itself() -> None:
    vectors = unit(np.array([[1, 0.0], [0.9, 0.1], [0, 1]]))
    listed = Listed(["self", "twin", "other"], [("a",), ("a",), ("b",)], ["f", "", ""])
    (judged,) = ranked(vectors[:1], ["a"], vectors, listed, 2, files=["f"]).judged
    assert (judged.same, judged.relevant, judged.first) == (1, 1, 1)
    assert judged.nearest == (1, 2)
    (alone,) = ranked(
        vectors[2:], ["b"], vectors, Listed(listed.ids, listed.labels, ["", "", "f"]), 2, files=["f"]
    ).judged
    assert alone.relevant == 0 and alone.first is None


def test_an_item_is_found_by_its_id() -> None:
    vectors = unit(np.array([[1, 0, 0], [0, 1, 0.4], [0, 1, 0.5]]))
    listed = Listed(["x", "y", "z"], [(), ("a",), ()], [""] * 3)
    found = ranked(vectors, ["x", "z", ""], vectors, listed, 3, by_id=True)
    assert found.judged[0].first == 1 and found.judged[2].first is None
    assert (found.judged[1].nearest[0], found.judged[1].first) == (1, 2), "what is nearest is another one"
    assert [each.relevant for each in found.judged] == [1, 1, 0]


def judged(best: float) -> Judged:
    return Judged(1, 1, 1.0, (True,), (0,), (best,), 0)


def test_no_match_is_judged_as_a_class() -> None:
    found = no_match([judged(0.9), judged(0.3)], [judged(0.2), judged(0.4), judged(0.8)], 0.5)
    assert (found["precision"]["hits"], found["precision"]["count"]) == (2, 3)
    assert (found["recall"]["hits"], found["recall"]["count"]) == (2, 3)
    assert (found["kept"]["hits"], found["kept"]["count"]) == (1, 2)
    assert found["parted"] == pytest.approx(4 / 6)
    assert no_match([judged(0.9)], [], 0.5)["recall"] is None
    alone = no_match([], [judged(0.2)], 0.5)
    assert alone["kept"] is None and alone["precision"]["value"] == 1
    assert alone["kept_at_rate"] is None


def test_what_is_answered_is_judged_as_it_came() -> None:
    near = Judged(2, 1, 1.0, (True, False), (0, 1), (0.9, 0.8), 0)
    took = {"search": 1.0, "total": 4.0}
    exact = OneAnswer(near, True, [True, False], [0.9, 0.8], True, took)
    lossy = OneAnswer(near, True, [False, True], [0.8, 0.7], True, {**took, "total": 2.0})
    stranger = OneAnswer(near, False, [False, False], [0.9, 0.8], True, took)
    found = answered([exact, lossy, stranger])
    assert found.recall_at[1] is not None and (found.recall_at[1].hits, found.recall_at[1].count) == (1, 2)
    assert found.recall_at[5] is not None and found.recall_at[5].value == 1
    assert found.index_recall == pytest.approx(5 / 6) and found.precision_at_10 == 0.5
    assert found.latency is not None and found.latency["total"]["p50"] == 4
    learnt = answered([exact, OneAnswer(near, True, [True], [0.1], False, took)])
    assert learnt.index_recall is None, "another order is no loss"
    assert answered([]).recall_at[1] is None and answered([]).latency is None


def test_opis_is_zero_where_every_label_needs_the_same_threshold() -> None:
    right, wrong = np.zeros((2, BINS), np.int64), np.zeros((2, BINS), np.int64)
    right[:, 300:380], wrong[:, 150:260] = 5, 9
    alike = opis(Pairs(["a", "b"], right, wrong))
    right[1], wrong[1] = np.roll(right[1], -90), np.roll(wrong[1], -90)
    apart = opis(Pairs(["a", "b"], right, wrong))
    assert alike == pytest.approx(0, abs=1e-12)
    assert apart is not None and apart > 0.01
    assert opis(Pairs(["a"], right[:1], wrong[:1])) is None


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=examples(30))
def test_any_mixture_of_queries_has_figures(seed: int, genuine: int, strangers: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(12, 4)))
    labels: list[tuple[str, ...]] = [("a",), ("a", "b"), ()] * 4
    wanted = [str(each) for each in rng.choice(["a", "b"], genuine)] + [""] * strangers
    if not wanted:
        return
    listed = Listed([str(n) for n in range(12)], labels, [""] * 12)
    seen = Seen(wanted, wanted, wanted, ranked(unit(rng.normal(size=(len(wanted), 4))), wanted, vectors, listed, 5))
    found = figures(seen, listed, 0.5)
    assert found["queries"] == genuine and found["strangers"] == strangers
    assert (found["recall_at_1"] is None) == (genuine == 0)
    assert sum(each["queries"] for each in found["labels"]) == genuine
    if found["recall_at_1"]:
        assert found["recall_at_1"]["value"] <= found["recall_at_5"]["value"] <= found["recall_at_10"]["value"]
