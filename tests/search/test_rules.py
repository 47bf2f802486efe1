"""Rules reorder what was found by the arithmetic that they name; scores stay what they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.filters import Filter, parse_filter
from index.items import Item, Match
from index.times import UNIT
from service.search.rules import Boost, Decay, PerGroup, Rank, Rules, Sort, limited, ordered, rank


def match(id: str, score: float, **metadata: object) -> Match:
    return Match(Item(id, metadata, None, 0.0, 0.0), score)


def having(key: str, value: object) -> Filter:
    return parse_filter({"must": [{"key": key, "match": value}]})


def ids(found: list[tuple[Match, Rank]]) -> str:
    return "".join(match.item.id for match, _ in found)


FOUND = [match("a", 0.9, brand="x", price=3), match("b", 0.8, brand="y", price=1), match("c", 0.7, brand="x")]


def test_a_boost_multiplies_then_adds_in_the_order_given() -> None:
    rules = Rules(boost=(Boost(having("brand", "y"), factor=2.0, add=0.1), Boost(having("price", 1), factor=0.5)))
    assert rank(FOUND[1], rules).score == pytest.approx((0.8 * 2 + 0.1) * 0.5)
    assert ids(ordered(FOUND, Rules(boost=(Boost(having("brand", "y"), factor=2.0),)))) == "bac"


def test_what_is_buried_comes_last_whatever_its_score() -> None:
    assert ids(ordered(FOUND, Rules(bury=(having("brand", "x"),)))) == "bac"


def test_decay_leaves_half_at_its_scale() -> None:
    decay = Decay("price", origin=1.0, scale=2.0)
    assert decay.of({"price": 3}) == pytest.approx(0.5)
    assert decay.of({"price": -3}) == pytest.approx(0.25)
    assert decay.of({"price": [9, 1]}) == 1.0  # the value nearest to the origin
    assert decay.of({}) == decay.of({"price": "cheap"}) == decay.of({"price": True}) == 1.0
    days = Decay("at", origin=10 * 86_400 * UNIT, scale=86_400.0 * UNIT, half=0.25, times=True)
    assert days.of({"at": "1970-01-12"}) == pytest.approx(0.25)
    assert days.of({"at": 5}) == 1.0


def test_sorting_keeps_kinds_apart_and_what_has_no_value_last() -> None:
    found = [match(id, 0.5, v=value) for id, value in zip("abcdef", [2, "z", 1.5, True, None, "y"], strict=True)]
    assert ids(ordered(found, Rules(sort=(Sort("v"),)))) == "cafbde"
    assert ids(ordered(found, Rules(sort=(Sort("v", descending=True),)))) == "dbface"
    assert ids(ordered(FOUND, Rules(sort=(Sort("brand"), Sort("price"))))) == "acb"


def test_so_many_of_each_group() -> None:
    assert ids(ordered(FOUND, Rules(per_group=PerGroup("brand", 1)))) == "ab"
    without = [match("d", 0.6), match("e", 0.5)]
    assert ids(ordered([*FOUND, *without], Rules(per_group=PerGroup("brand", 1)))) == "abde"
    both = [match("t", 0.9, v=True), match("o", 0.8, v=1), match("p", 0.7, v=1.0)]
    assert ids(ordered(both, Rules(per_group=PerGroup("v", 1)))) == "to"


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text("ab1", max_size=3)
metadata = st.dictionaries(st.sampled_from("kl"), scalars | st.lists(scalars, max_size=3), max_size=2)


@given(
    st.lists(st.tuples(st.floats(-1, 1), metadata), max_size=12),
    st.floats(0, 100),
    st.floats(-2, 2),
    st.booleans(),
    st.integers(1, 3),
)
def test_nothing_is_lost_added_or_rescored(
    drawn: list[tuple[float, dict[str, object]]], factor: float, add: float, descending: bool, most: int
) -> None:
    found = [match(str(n), score, **values) for n, (score, values) in enumerate(drawn)]
    rules = Rules(
        boost=(Boost(having("k", 1), factor, add),),
        decay=(Decay("l", 0.0, 1.0),),
        bury=(having("l", None),),
        sort=(Sort("k", descending),),
    )
    result = ordered(found, rules)
    assert sorted(each.item.id for each, _ in result) == sorted(each.item.id for each in found)
    assert {each.item.id: each.score for each, _ in result} == {each.item.id: each.score for each in found}
    buried = [ranked.buried for _, ranked in result]
    assert buried == sorted(buried)
    kept = limited(result, PerGroup("k", most))
    assert [pair for pair in result if pair in kept] == kept
