"""Rules on top of similarity: they reorder what was found, and never change a score or what counts as a match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from index.filters import Filter, is_number, values_at
from index.items import Match
from index.times import instant, is_instant

# Rules look at so many of the nearest items above the threshold; what is farther keeps its place behind them.
WINDOW = 500
MAX_RULES = 20
MAX_PINS = 20


@dataclass(frozen=True, slots=True)
class Boost:
    """Items that pass `filter` have their score multiplied, then raised. factor: 0…100; add: −2…2."""

    filter: Filter
    factor: float = 1.0
    add: float = 0.0


@dataclass(frozen=True, slots=True)
class Decay:
    """Halves the score (or what `half` says) with every `scale` between the value under `key` and `origin`.

    origin, scale: numbers; with `times`, ticks of `index.times`. Items without such a value keep their score.
    """

    key: str
    origin: float
    scale: float
    half: float = 0.5
    times: bool = False

    def of(self, metadata: Mapping[str, Any]) -> float:
        """The factor, 0…1: of the value nearest to the origin."""
        found = [number for value in values_at(metadata, self.key) if (number := self._number(value)) is not None]
        if not found:
            return 1.0
        # Where rounding leaves nothing the item still keeps its place among those that decayed more.
        return float(self.half ** min(min(abs(number - self.origin) for number in found) / self.scale, 1_000.0))

    def _number(self, value: Any) -> float | None:
        if self.times:
            return instant(value) if isinstance(value, str) and is_instant(value) else None
        return float(value) if is_number(value) else None


@dataclass(frozen=True, slots=True)
class Sort:
    """By the first value under `key`: numbers, then times, then texts; items without one come last."""

    key: str
    descending: bool = False

    def of(self, metadata: Mapping[str, Any]) -> tuple[int, Any]:
        """(kind, value); the kind decides first, so that a key of mixed types has an order all the same."""
        for value in values_at(metadata, self.key):
            if is_number(value):
                return (0, value)
            if isinstance(value, str):
                return (1, instant(value)) if is_instant(value) else (2, value)
            if isinstance(value, bool):
                return (3, value)
        return (4, 0)


@dataclass(frozen=True, slots=True)
class PerGroup:
    """At most `limit` items with one value under `key`; items without one are not limited."""

    key: str
    limit: int


@dataclass(frozen=True, slots=True)
class Fallback:
    """When fewer than `least` pass the threshold: others with the nearest item's value of `key`, then the nearest."""

    least: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """All that one search asks for. pin: ids that come first, in this order. diversity: 0…1; collapse: near-duplicates.

    explain: say of each result what was done to it.
    """

    boost: tuple[Boost, ...] = ()
    bury: tuple[Filter, ...] = ()
    decay: tuple[Decay, ...] = ()
    sort: tuple[Sort, ...] = ()
    per_group: PerGroup | None = None
    pin: tuple[str, ...] = ()
    fallback: Fallback | None = None
    diversity: float = 0.0
    collapse: bool = False
    explain: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing is asked but an explanation of nothing."""
        return self == (EXPLAINED if self.explain else NO_RULES)


NO_RULES, EXPLAINED = Rules(), Rules(explain=True)


@dataclass(frozen=True, slots=True)
class Rank:
    """What the rules made of one result. why: one line for each rule that touched it."""

    score: float
    buried: bool = False
    pinned: bool = False
    fallback: Literal["same_value", "nearest"] | None = None
    why: tuple[str, ...] = ()


def rank(match: Match, rules: Rules) -> Rank:
    """The score with every boost and decay in it, in the order in which they were given."""
    score, why = match.score, []
    for boost in rules.boost:
        if boost.filter.accepts(match.item.metadata):
            score = score * boost.factor + boost.add
            why.append(f"boost × {boost.factor:g}" + (f" + {boost.add:g}" if boost.add else ""))
    for decay in rules.decay:
        factor = decay.of(match.item.metadata)
        if factor != 1.0:
            score *= factor
            why.append(f"decay by {decay.key} × {factor:.3g}")
    buried = any(each.accepts(match.item.metadata) for each in rules.bury)
    if buried:
        why.append("buried")
    return Rank(score, buried=buried, why=tuple(why))


def ordered(matches: Sequence[Match], rules: Rules) -> list[tuple[Match, Rank]]:
    """By the rules' sort keys where there are any, else by the changed score; buried ones last."""
    found = [(match, rank(match, rules)) for match in matches]
    found.sort(key=lambda pair: -pair[1].score)
    for sort in reversed(rules.sort):
        known = [pair for pair in found if sort.of(pair[0].item.metadata)[0] != 4]
        rest = [pair for pair in found if sort.of(pair[0].item.metadata)[0] == 4]
        known.sort(key=lambda pair: sort.of(pair[0].item.metadata), reverse=sort.descending)
        found = known + rest
    found.sort(key=lambda pair: pair[1].buried)
    return limited(found, rules.per_group)


def limited(found: Sequence[tuple[Match, Rank]], per_group: PerGroup | None) -> list[tuple[Match, Rank]]:
    """Without those beyond their group's number."""
    if per_group is None:
        return list(found)
    counts: dict[Any, int] = {}
    kept = []
    for match, ranked in found:
        value = next(values_at(match.item.metadata, per_group.key), None)
        if value is not None:
            token = (type(value) is bool, value)
            counts[token] = counts.get(token, 0) + 1
            if counts[token] > per_group.limit:
                continue
        kept.append((match, ranked))
    return kept
