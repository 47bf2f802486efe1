"""A filter means the same wherever it is answered:

on one item's metadata, and from the bitmaps over a whole collection.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from index.embedded.filters.fields import Fields
from index.errors import FilterError
from index.filters import parse_filter
from tests.harness.soak import examples

ITEM = {
    "brand": "acme",
    "price": 10,
    "ok": True,
    "size": ["S", "M"],
    "deep": {"er": {"n": 1.5}},
    "a.b": "dotted",
    "none": None,
    "variants": [{"size": "M", "stock": [{"n": 3}, {"n": [5, "x"]}]}, {"size": ["L", "XL"]}, "loose", [{"size": "S"}]],
    "big": 2**53 + 1,
    "least": -(2**63),
    "half": 0.5,
    "huge": 1e300,
    "at": "2024-05-01T12:00:00.25+02:00",
    "day": "2024-05-01",
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
        ({"key": "variants.size", "match": "M"}, True),
        ({"key": "variants.size", "any": ["XS", "XL"]}, True),
        ({"key": "variants.size", "match": "S"}, True),
        ({"key": "variants.size", "match": "loose"}, False),
        ({"key": "variants.stock.n", "range": {"gt": 4, "lt": 6}}, True),
        ({"key": "variants.stock.n", "match": "x"}, True),
        ({"key": "variants.stock", "match": "x"}, False),
        ({"key": "big", "match": 2**53}, False),
        ({"key": "big", "match": 2**53 + 1}, True),
        ({"key": "big", "match": float(2**53)}, False),
        ({"key": "big", "range": {"gt": 2**53}}, True),
        ({"key": "big", "range": {"gte": 2**53 + 2}}, False),
        ({"key": "big", "range": {"gt": float(2**53), "lt": float(2**53 + 2)}}, True),
        ({"key": "least", "range": {"lte": -(2**63)}}, True),
        ({"key": "least", "range": {"gt": -(2**63)}}, False),
        ({"key": "half", "range": {"gt": 0, "lt": 1}}, True),
        ({"key": "huge", "range": {"gt": 2**63 - 1}}, True),
        ({"key": "at", "range": {"gte": "2024-05-01T10:00:00.25Z", "lte": "2024-05-01t10:00:00.250000z"}}, True),
        ({"key": "at", "range": {"gt": "2024-05-01T10:00:00.25Z"}}, False),
        ({"key": "at", "range": {"gte": "2024-05-01T10:00:00.2500000001Z"}}, False),
        ({"key": "at", "range": {"lt": "2024-05-01T05:30:00-05:00"}}, True),
        ({"key": "at", "range": {"gte": 0}}, False),
        ({"key": "day", "range": {"gte": "2024-04-30T23:00:00-01:00", "lt": "2024-05-02"}}, True),
        ({"key": "brand", "range": {"gte": "2024-05-01"}}, False),
    ],
)
def test_condition(condition: dict[str, Any], expected: bool) -> None:
    """Each operator decides as the contract says, alone in `must` and the other way round in `must_not`."""
    assert parse_filter({"must": [condition]}).accepts(ITEM) is expected
    assert parse_filter({"must_not": [condition]}).accepts(ITEM) is not expected
    assert parse_filter({"must": None, "should": [condition], "must_not": []}).accepts(ITEM) is expected


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([], ""),
        ("{}", ""),
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
        ({"must": [{"key": "a", "range": {"gte": 2**63}}]}, "must[0].range.gte"),
        ({"must": [{"key": "a", "range": {"lt": -(2**63) - 1}}]}, "must[0].range.lt"),
        ({"must": [{"key": "a", "match": 2**63}]}, "must[0].match"),
        ({"must": [{"key": "a", "any": [1, -(2**64)]}]}, "must[0].any[1]"),
        ({"must": [{"key": "a", "range": {"gte": None}}]}, "must[0].range.gte"),
        ({"must": [{"key": "a", "range": {"gte": "tomorrow"}}]}, "must[0].range.gte"),
        ({"must": [{"key": "a", "range": {"gte": "2024-02-30"}}]}, "must[0].range.gte"),
        ({"must": [{"key": "a", "range": {"gte": "2024-02-01T24:00:00Z"}}]}, "must[0].range.gte"),
        ({"must": [{"key": "a", "range": {"gte": "2024-02-01T12:00:00"}}]}, "must[0].range.gte"),
        ({"must": [{"key": "a", "range": {"gte": 1, "lt": "2024-02-01"}}]}, "must[0].range.lt"),
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


@pytest.mark.parametrize("value", [{}, {"must": []}, {"should": None}, {"must": None, "should": [], "must_not": None}])
def test_a_filter_without_a_condition_is_known_as_such(value: object) -> None:
    """It passes everything, and says so: what deletes by filter refuses it."""
    assert parse_filter(value).empty and parse_filter(value).accepts(ITEM)
    assert not parse_filter({"must": [{"key": "a", "any": []}]}).empty


TIMES = [
    "2024-05-01",
    "2024-05-01T00:00:00Z",
    "2024-05-01T00:00:00.000001Z",
    "2024-05-01T00:00:00.0000005Z",
    "2024-05-01T02:00:00.0000005+02:00",
    "2024-04-30T23:59:60Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999999-12:00",
]
INTEGERS = [n + d for n in (2**53, -(2**53), 2**62, 2**63 - 2, -(2**63) + 1) for d in (-1, 0, 1)]
FLOATS = [
    0.5,
    1.0,
    -2.0,
    2.5,
    float(2**53),
    float(2**53 + 2),
    -float(2**53),
    2.0**62,
    2.0**63,
    -(2.0**63),
    1e300,
    -1e300,
]
numbers = st.one_of(st.integers(-3, 3), st.sampled_from(INTEGERS), st.sampled_from(FLOATS))
scalars = st.one_of(
    st.sampled_from(["a", "b", "1", "true", ""]),
    st.sampled_from(TIMES),
    numbers,
    st.booleans(),
    st.none(),
)
objects = st.dictionaries(st.sampled_from("xy"), st.one_of(scalars, st.lists(scalars, max_size=2)), max_size=2)
values = st.one_of(scalars, st.lists(st.one_of(scalars, objects), max_size=3), objects)
metadata = st.dictionaries(st.sampled_from(["k", "l", "k.x", "m"]), values, max_size=4)
keys = st.sampled_from(["k", "l", "k.x", "m", "k.y"])
names = st.sampled_from(["gt", "gte", "lt", "lte"])
bounds = st.one_of(
    st.dictionaries(names, numbers, min_size=1, max_size=3),
    st.dictionaries(names, st.sampled_from(TIMES), min_size=1, max_size=3),
)
conditions = st.one_of(
    st.builds(lambda key, value: {"key": key, "match": value}, keys, scalars),
    st.builds(lambda key, value: {"key": key, "any": value}, keys, st.lists(scalars, max_size=3)),
    st.builds(lambda key, value: {"key": key, "range": value}, keys, bounds),
)
filters = st.fixed_dictionaries(
    {}, optional={name: st.lists(conditions, max_size=3) for name in ("must", "should", "must_not")}
)


@settings(deadline=None, max_examples=examples(300))
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
