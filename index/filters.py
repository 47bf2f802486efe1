"""A filter is parsed once into frozen values; what it means for one item's metadata is decided here and nowhere else.

Types matter: "1" is not 1, true is not 1, but 1 equals 1.0. Numbers compare exactly, by value. A stored list matches
when any of its elements does. A missing key makes a condition false. Keys may be dotted paths, through lists of objects
as well; a literal top-level key that contains the dots matches too. In a range between times, RFC 3339 texts compare as
times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from index.errors import FilterError
from index.limits import MAX_INTEGER, MIN_INTEGER
from index.times import instant, is_instant

Scalar = str | int | float | bool | None
MAX_CONDITIONS = 256
MAX_VALUES = 10_000
MAX_KEYS = 32
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
    """True where one of the stored values lies within the bounds; a bound that was not given is infinite.

    times: the bounds are instants (see `index.times`), and the values texts that name one; else both are numbers.
    """

    key: str
    low: float
    high: float
    low_open: bool = False
    high_open: bool = False
    times: bool = False

    def accepts(self, metadata: Mapping[str, Any]) -> bool:
        return any(self.fits(value) for value in values_at(metadata, self.key))

    def fits(self, value: Scalar) -> bool:
        """Whether one stored value does."""
        if not self.times:
            return is_number(value) and self.holds(value)
        return isinstance(value, str) and is_instant(value) and self.holds(instant(value))

    def holds(self, value: float) -> bool:
        """Whether a number, or an instant, does; exact, since Python compares integers and floats by value."""
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
    found = [metadata[key]] if key in metadata else []
    if "." in key:
        found += _down(metadata, key.split("."))
    for value in found:
        for element in value if isinstance(value, list | tuple) else (value,):
            if element is None or isinstance(element, str | int | float | bool):
                yield element


def _down(node: Any, path: list[str]) -> Iterator[Any]:
    """What lies at the end of a path; through a list, of each of its elements."""
    if isinstance(node, list | tuple):
        for element in node:
            yield from _down(element, path)
    elif isinstance(node, Mapping) and path[0] in node:
        if len(path) == 1:
            yield node[path[0]]
        else:
            yield from _down(node[path[0]], path[1:])


def parse_filter(value: object) -> Filter:
    """Reads a filter as the HTTP contract writes it, from decoded JSON whose integers are exact.

    A clause that is null or an empty list counts as left out. Raises FilterError with the path of the first thing that
    does not fit. `{}` passes everything; see `Filter.empty`.
    """
    if not isinstance(value, Mapping):
        raise FilterError("", 'must be an object such as {"must": [{"key": "brand", "match": "acme"}]}')
    _only(value, _CLAUSES, "")
    clauses = {name: _conditions(value[name], name) for name in _CLAUSES if value.get(name) is not None}
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
    _check_integer(value, path)
    if value is None or isinstance(value, str | int | float | bool):
        return token(value)
    raise FilterError(path, "must be a text, a number, true, false or null")


def _range(key: str, value: object, path: str) -> Range:
    if not isinstance(value, Mapping):
        raise FilterError(path, 'must be an object such as {"gte": 10, "lt": 20}')
    _only(value, _BOUNDS, path)
    if not value:
        raise FilterError(path, "needs at least one of gt, gte, lt, lte")
    times = all(isinstance(bound, str) for bound in value.values())
    given = {name: _bound(bound, times, f"{path}.{name}") for name, bound in value.items()}
    low, low_open = max([(given.get("gte", -math.inf), False), (given.get("gt", -math.inf), "gt" in given)])
    high, high_closed = min([(given.get("lte", math.inf), True), (given.get("lt", math.inf), "lt" not in given)])
    return Range(key, low, high, low_open, not high_closed, times)


def _bound(value: object, times: bool, path: str) -> float:
    if times:
        try:
            return instant(str(value))
        except ValueError:
            raise FilterError(path, "must be a finite number, or a time such as 2026-11-25T12:00:00Z") from None
    if isinstance(value, str):
        raise FilterError(path, "must be a number like the other bound")
    _check_integer(value, path)
    if not is_number(value) or not math.isfinite(value):
        raise FilterError(path, "must be a finite number, or a time such as 2026-11-25T12:00:00Z")
    return value


def _check_integer(value: object, path: str) -> None:
    if isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
        raise FilterError(path, "an integer does not fit into 64 bits")


def _only(value: Mapping[Any, Any], allowed: tuple[str, ...], path: str) -> None:
    for name in value:
        if name not in allowed:
            shown = repr(name)[:40]
            raise FilterError(path, f"unknown field {shown}; allowed are {', '.join(allowed)}")
