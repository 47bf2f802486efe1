"""A filter is parsed once into frozen values; what it means for one item's metadata is decided here and nowhere else.

Types matter: "1" is not 1, true is not 1, but 1 equals 1.0. A stored list matches when any of its elements does. A
missing key makes a condition false. Keys may be dotted paths; a literal top-level key that contains the dots matches as
well.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import orjson

from index.errors import FilterError

Scalar = str | int | float | bool | None
MAX_CONDITIONS = 256
MAX_VALUES = 10_000
MAX_KEYS = 32
_LARGEST = sys.float_info.max
_CLAUSES = ("must", "should", "must_not")
_BOUNDS = ("gt", "gte", "lt", "lte")


def token(value: Scalar) -> tuple[str, Scalar]:
    """What two scalars must share to be equal: their JSON type and value (1 and 1.0 share it, true and 1 do not)."""
    if value is None:
        return ("null", None)
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, str):
        return ("str", value)
    return ("num", value)


@dataclass(frozen=True, slots=True)
class Match:
    """True where one of the stored values equals one of `tokens` (see `token`)."""

    key: str
    tokens: frozenset[tuple[str, Scalar]]

    def accepts(self, metadata: Mapping[str, Any]) -> bool:
        return any(token(value) in self.tokens for value in values_at(metadata, self.key))


@dataclass(frozen=True, slots=True)
class Range:
    """True where one of the stored values is a number within the bounds; a bound that was not given is infinite."""

    key: str
    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def accepts(self, metadata: Mapping[str, Any]) -> bool:
        return any(is_number(value) and self.holds(value) for value in values_at(metadata, self.key))

    def holds(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below


Condition = Match | Range


@dataclass(frozen=True, slots=True)
class Filter:
    """All of `must`, at least one of `should` where there are any, none of `must_not`. Hashable."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()

    def accepts(self, metadata: Mapping[str, Any]) -> bool:
        """Whether an item with this metadata passes."""
        return (
            all(c.accepts(metadata) for c in self.must)
            and (not self.should or any(c.accepts(metadata) for c in self.should))
            and not any(c.accepts(metadata) for c in self.must_not)
        )

    @property
    def empty(self) -> bool:
        """True when everything passes."""
        return not (self.must or self.should or self.must_not)

    def fields(self) -> frozenset[str]:
        """The metadata keys the filter looks at."""
        return frozenset(c.key for c in (*self.must, *self.should, *self.must_not))


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def values_at(metadata: Mapping[str, Any], key: str) -> Iterator[Scalar]:
    """The scalars stored under `key`: the value, or the scalar elements of a list.

    Nothing for objects or missing keys.
    """
    found: list[Any] = []
    if key in metadata:
        found.append(metadata[key])
    if "." in key:
        node: Any = metadata
        for part in key.split("."):
            if not isinstance(node, Mapping) or part not in node:
                break
            node = node[part]
        else:
            found.append(node)
    for value in found:
        for element in value if isinstance(value, list | tuple) else (value,):
            if element is None or isinstance(element, str | int | float | bool):
                yield element


def parse_filter(value: object) -> Filter:
    """Reads a filter as the HTTP contract writes it, from a decoded object or from JSON text.

    Raises FilterError with the path of the first thing that does not fit. `{}` passes everything.
    """
    if isinstance(value, str | bytes):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise FilterError("", "not valid JSON") from error
    if not isinstance(value, Mapping):
        raise FilterError("", 'must be an object such as {"must": [{"key": "brand", "match": "acme"}]}')
    _only(value, _CLAUSES, "")
    clauses = {name: _conditions(value[name], name) for name in _CLAUSES if name in value}
    if sum(map(len, clauses.values())) > MAX_CONDITIONS:
        raise FilterError("", f"at most {MAX_CONDITIONS} conditions")
    filter = Filter(**clauses)
    if len(filter.fields()) > MAX_KEYS:
        raise FilterError("", f"at most {MAX_KEYS} different keys")
    return filter


def _conditions(value: object, path: str) -> tuple[Condition, ...]:
    if not isinstance(value, list):
        raise FilterError(path, "must be a list of conditions")
    return tuple(_condition(one, f"{path}[{i}]") for i, one in enumerate(value))


def _condition(value: object, path: str) -> Condition:
    if not isinstance(value, Mapping):
        raise FilterError(path, 'must be an object such as {"key": "brand", "match": "acme"}')
    _only(value, ("key", "match", "any", "range"), path)
    key = value.get("key")
    if not isinstance(key, str) or not key:
        raise FilterError(f"{path}.key", "must be a non-empty text")
    operators = [name for name in ("match", "any", "range") if name in value]
    if len(operators) != 1:
        raise FilterError(path, "needs exactly one of match, any, range")
    operator = operators[0]
    operand = value[operator]
    where = f"{path}.{operator}"
    if operator == "range":
        return _range(key, operand, where)
    if operator == "match":
        return Match(key, frozenset([_token(operand, where)]))
    if not isinstance(operand, list):
        raise FilterError(where, "must be a list of values")
    if len(operand) > MAX_VALUES:
        raise FilterError(where, f"at most {MAX_VALUES:,} values")
    return Match(key, frozenset(_token(one, f"{where}[{i}]") for i, one in enumerate(operand)))


def _token(value: object, path: str) -> tuple[str, Scalar]:
    if isinstance(value, float) and not math.isfinite(value):
        raise FilterError(path, "must be finite")
    if value is None or isinstance(value, str | int | float | bool):
        return token(value)
    raise FilterError(path, "must be a text, a number, true, false or null")


def _range(key: str, value: object, path: str) -> Range:
    if not isinstance(value, Mapping):
        raise FilterError(path, 'must be an object such as {"gte": 10, "lt": 20}')
    _only(value, _BOUNDS, path)
    if not value:
        raise FilterError(path, "needs at least one of gt, gte, lt, lte")
    for name, bound in value.items():
        if not is_number(bound) or not abs(bound) <= _LARGEST:
            raise FilterError(f"{path}.{name}", "must be a finite number")
    low, low_open = max([(value.get("gte", -math.inf), False), (value.get("gt", -math.inf), "gt" in value)])
    high, high_closed = min([(value.get("lte", math.inf), True), (value.get("lt", math.inf), "lt" not in value)])
    return Range(key, low, high, low_open, not high_closed)


def _only(value: Mapping[Any, Any], allowed: tuple[str, ...], path: str) -> None:
    for name in value:
        if name not in allowed:
            shown = repr(name)[:40]
            raise FilterError(path, f"unknown field {shown}; allowed are {', '.join(allowed)}")
