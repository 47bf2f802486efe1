"""JSON is read as every other reader would read it, or not at all."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.strict_json import JsonRefused, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=30,
)


@given(VALUES)
def test_what_one_writes_the_other_reads(value: Any) -> None:
    """Types included: 1 stays an integer and 1.0 a float."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert orjson.dumps(loads(text)) == orjson.dumps(value)
        assert orjson.dumps(loads(text.encode())) == orjson.dumps(value)


@given(VALUES, st.text(st.characters(exclude_categories=["Cs"])), VALUES)
def test_a_key_twice_is_refused_wherever_it_is(value: Any, key: str, other: Any) -> None:
    twice = f"{{{json.dumps(key)}: {json.dumps(value)}, {json.dumps(key)}: {json.dumps(other)}}}"
    for text in (twice, f"[1, {twice}]", f'{{"inner": {twice}}}'):
        with pytest.raises(JsonRefused, match="same key twice"):
            loads(text)


@given(st.integers(2**63, 2**80) | st.integers(-(2**80), -(2**63) - 1))
def test_integers_beyond_64_bits_are_refused_not_rounded(value: int) -> None:
    for text in (f"{value}", f"[1.5, {value}]", f'{{"a": [{{"b": {value}}}]}}'):
        with pytest.raises(JsonRefused, match="64 bits"):
            loads(text)


@pytest.mark.parametrize(
    "text",
    ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1E+0999", "[1" + "0" * 400 + ".5]", "nan", "0x10", "01", "1.",
     "+1", "", " ", "{", "[1,]", "{'a': 1}", '{"a": 1} x', '"\\ud800"', "[" * 5000 + "]" * 5000, "\ufeff{}", "// x\n1"],
)  # fmt: skip
def test_what_is_no_json_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(JsonRefused) as failed:
        loads(text)
    assert len(str(failed.value)) < 120 and "\n" not in str(failed.value)


def test_the_edges_of_64_bits_are_taken() -> None:
    assert loads("[9223372036854775807, -9223372036854775808, 1e308]") == [2**63 - 1, -(2**63), 1e308]
    with pytest.raises(JsonRefused):
        loads(b'"\xff"')
