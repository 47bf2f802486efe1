"""A filter means the same wherever it is answered:

on one item's metadata, and from the bitmaps over a whole collection.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from index.embedded.filters.fields import Fields
from index.errors import FilterError
from index.filters import parse_filter

ITEM = {
    "brand": "acme",
    "price": 10,
    "ok": True,
    "size": ["S", "M"],
    "deep": {"er": {"n": 1.5}},
    "a.b": "dotted",
    "none": None,
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"key": "brand", "match": "acme"}, True),
        ({"key": "brand", "match": "Acme"}, False),
        ({"key": "price", "match": 10.0}, True),
        ({"key": "price", "match": "10"}, False),
        ({"key": "ok", "match": True}, True),
        ({"key": "ok", "match": 1}, False),
        ({"key": "size", "match": "M"}, True),
        ({"key": "size", "any": ["XL", "S"]}, True),
        ({"key": "size", "any": []}, False),
        ({"key": "deep.er.n", "range": {"gt": 1, "lte": 1.5}}, True),
        ({"key": "deep.er.n", "range": {"lt": 1.5}}, False),
        ({"key": "deep.er", "match": "x"}, False),
        ({"key": "a.b", "match": "dotted"}, True),
        ({"key": "ok", "range": {"gte": 0}}, False),
        ({"key": "missing", "match": "x"}, False),
        ({"key": "none", "match": None}, True),
        ({"key": "price", "range": {"gte": 10, "gt": 10}}, False),
    ],
)
def test_condition(condition: dict[str, Any], expected: bool) -> None:
    """Each operator decides as the contract says, alone in `must` and the other way round in `must_not`."""
    assert parse_filter({"must": [condition]}).accepts(ITEM) is expected
    assert parse_filter({"must_not": [condition]}).accepts(ITEM) is not expected
    assert parse_filter(json.dumps({"should": [condition]})).accepts(ITEM) is expected


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([], ""),
        ("{", ""),
        ({"musst": []}, ""),
        ({"must": {}}, "must"),
        ({"must": [1]}, "must[0]"),
        ({"must": [{"key": "a"}]}, "must[0]"),
        ({"must": [{"key": "a", "match": 1, "any": [1]}]}, "must[0]"),
        ({"must": [{"key": "", "match": 1}]}, "must[0].key"),
        ({"must": [{"key": "a", "match": {}}]}, "must[0].match"),
        ({"must": [{"key": "a", "match": float("nan")}]}, "must[0].match"),
        ({"should": [{"key": "a", "any": [1, [2]]}]}, "should[0].any[1]"),
        ({"must_not": [{"key": "a", "range": {}}]}, "must_not[0].range"),
        ({"must_not": [{"key": "a", "range": {"ge": 1}}]}, "must_not[0].range"),
        ({"must_not": [{"key": "a", "range": {"gte": True}}]}, "must_not[0].range.gte"),
        ({"must_not": [{"key": "a", "range": {"gte": 10**400}}]}, "must_not[0].range.gte"),
        ({"must": [{"key": "a", "match": 1, "boost": 2}]}, "must[0]"),
        ({"must": [{"key": str(i), "match": 1} for i in range(40)]}, ""),
        ({"must": [{"key": "a", "match": 1}] * 300}, ""),
    ],
)
def test_refused(value: object, path: str) -> None:
    """What is outside the grammar is refused, with the place where it went wrong."""
    with pytest.raises(FilterError) as caught:
        parse_filter(value)
    assert caught.value.path == path


scalars = st.one_of(
    st.sampled_from(["a", "b", "1", "true", ""]),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, -2.0]),
    st.booleans(),
    st.none(),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.sampled_from("xy"), scalars, max_size=2))
metadata = st.dictionaries(st.sampled_from(["k", "l", "k.x", "m"]), values, max_size=4)
keys = st.sampled_from(["k", "l", "k.x", "m", "k.y"])
bounds = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), st.integers(-3, 3), min_size=1, max_size=3)
conditions = st.one_of(
    st.builds(lambda key, value: {"key": key, "match": value}, keys, scalars),
    st.builds(lambda key, value: {"key": key, "any": value}, keys, st.lists(scalars, max_size=3)),
    st.builds(lambda key, value: {"key": key, "range": value}, keys, bounds),
)
filters = st.fixed_dictionaries(
    {}, optional={name: st.lists(conditions, max_size=3) for name in ("must", "should", "must_not")}
)


@settings(deadline=None, max_examples=200)
@given(
    start=st.lists(metadata, max_size=12),
    changes=st.lists(st.tuples(st.integers(1, 16), st.one_of(st.none(), metadata)), max_size=12),
    asked=st.lists(filters, min_size=1, max_size=3),
)
def test_bitmaps_agree_with_items(
    start: list[dict[str, Any]], changes: list[tuple[int, dict[str, Any] | None]], asked: list[dict[str, Any]]
) -> None:
    """Whatever is added, patched or removed, the bitmaps select exactly what the filter accepts one by one."""
    items = dict(enumerate(start, 1))
    fields = Fields(BitMap(items), lambda: list(items.items()))
    parsed = [parse_filter(one) for one in asked]
    for step in [None, *changes]:
        if step is not None:
            key, new = step
            if new is None:
                items.pop(key, None)
                fields.apply({}, [], [key])
            else:
                added = [] if key in items else [key]
                items[key] = new
                fields.apply({key: new}, added, [])
        for one in parsed:
            assert list(fields.matching(one).keys) == sorted(k for k, m in items.items() if one.accepts(m))


def test_overlay_folds() -> None:
    """Thousands of changes after a column was read are folded into its arrays without losing or reviving any."""
    items = {key: {"n": key % 5, "t": str(key % 3)} for key in range(1, 2001)}
    fields = Fields(BitMap(items), lambda: list(items.items()))
    filter = parse_filter({"must": [{"key": "n", "range": {"gte": 3}}, {"key": "t", "match": "1"}]})
    fields.matching(filter)
    for key in range(1, 20_001):
        items[key] = {"n": (key + 1) % 5, "t": str(key % 3)}
    fields.apply(dict(items), list(items), [])
    gone = list(range(1, 20_001, 7))
    fields.apply({}, [], gone)
    for key in gone:
        del items[key]
    other = parse_filter({"must": [{"key": "n", "match": 2}], "must_not": [{"key": "t", "match": "0"}]})
    for one in (filter, other):
        assert list(fields.matching(one).keys) == sorted(k for k, m in items.items() if one.accepts(m))
