"""One search over one state of a collection: from keys and scores to items, exclusions, thresholds and groups.

Index and store are read one after the other. Where they turn out to be of different moments, Moved is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pyroaring import BitMap

from index.embedded.filters.column import group_value
from index.embedded.filters.fields import Fields, Matching
from index.embedded.live.live import LiveIndex
from index.embedded.store import items
from index.embedded.store.rows import Broken, Row
from index.embedded.store.store import Store
from index.items import Match, SearchResult, Vector

Pair = tuple[float, int]  # score, key

_AT_ONCE = 32  # candidates per round of grouping, at least


class Moved(Exception):
    """What was found was changed meanwhile: ask again, once that is applied."""


class RowsDamaged(Exception):
    """Rows that were found are not what was written: ask again without them. keys: theirs."""

    def __init__(self, keys: list[int]) -> None:
        super().__init__(f"{len(keys)} rows are damaged")
        self.keys = keys


@dataclass(frozen=True, slots=True)
class Searcher:
    """query: float32 (dim,), unit. exclude: ids; same: what scores 1 whatever the index finds, by key; leave_out: keys
    of damaged rows. settled: nothing is written now. Every method raises Moved, and RowsDamaged.
    """

    store: Store
    collection: int
    index: LiveIndex
    fields: Fields
    query: Vector
    exclude: frozenset[str]
    same: Mapping[int, float]
    leave_out: frozenset[int]
    settled: bool = False

    def run(
        self, limit: int, offset: int, *, min_score: float, matching: Matching | None, group_by: str | None
    ) -> SearchResult:
        """As `Collection.search`; matching: the items that pass the filter, None for all."""
        excluded = self._excluded()
        total = len(self.fields) if matching is None else len(matching)
        same = len(self.same.keys() - excluded)
        if group_by is not None:
            best = self._best(matching, excluded)
            found = self._grouped(limit + offset, min_score, matching, group_by, excluded)
            groupable = bool(found or self._groups(matching, group_by))
            return SearchResult(found[offset:], best, total, same, groupable)
        wanted = limit + offset + len(excluded)
        pairs = self._pairs(wanted, matching)
        found_all = len(pairs) >= min(wanted, total)
        pairs = [pair for pair in pairs if pair[1] not in excluded]
        if not self.settled and (not found_all or total < len(pairs)):
            raise Moved  # counted before a change and searched after it, or the other way round
        best = pairs[0][0] if pairs else None
        kept = [pair for pair in pairs[offset : offset + limit] if pair[0] >= min_score]
        return SearchResult(self._matches(kept), best, total, same)

    def above(self, bound: int, min_score: float, matching: Matching | None) -> tuple[list[int], bool]:
        """Keys of at most `bound` items that score at least `min_score`, best first; and whether there are more."""
        excluded = self._excluded()
        pairs = self._pairs(bound + 1 + len(excluded), matching)
        keys = [key for score, key in pairs if score >= min_score and key not in excluded]
        return keys[:bound], len(keys) > bound

    def _pairs(self, count: int, matching: Matching | None) -> list[Pair]:
        """At most `count` of those that pass the filter, best first."""
        scores, keys = self.index.search(self.query, count, matching)
        pairs = list(zip(scores.tolist(), keys.tolist(), strict=True))
        if not self.same:
            return pairs
        first = [(score, key) for key, score in self.same.items() if matching is None or key in matching.keys]
        return [*first, *(pair for pair in pairs if pair[1] not in self.same)][:count]

    def _groups(self, matching: Matching | None, group_by: str) -> BitMap:
        """Items that pass the filter and have one value to be grouped by."""
        grouped = self.fields.grouped(group_by)
        if matching is not None:
            grouped &= matching.keys
        return grouped

    def _excluded(self) -> frozenset[int]:
        if not self.exclude:
            return self.leave_out
        with self.store.readers.connection() as connection:
            return self.leave_out.union(items.keys_by_id(connection, self.collection, self.exclude).values())

    def _best(self, matching: Matching | None, excluded: frozenset[int]) -> float | None:
        pairs = self._pairs(1 + len(excluded), matching)
        return next((score for score, key in pairs if key not in excluded), None)

    def _matches(self, pairs: list[tuple[float, int]]) -> list[Match]:
        with self.store.readers.connection() as connection:
            rows = items.rows_by_key(connection, self.collection, (key for _, key in pairs))
        if broken := [key for key, row in rows.items() if isinstance(row, Broken)]:
            raise RowsDamaged(broken)
        whole = {key: row.item for key, row in rows.items() if isinstance(row, Row)}
        if len(whole) < len(pairs) or any(item.id in self.exclude for item in whole.values()):
            raise Moved
        return [Match(whole[key], score, same=key in self.same) for score, key in pairs]

    def _grouped(
        self, wanted: int, min_score: float, matching: Matching | None, group_by: str, excluded: frozenset[int]
    ) -> list[Match]:
        best: dict[tuple[bool, object], Match] = {}
        # Where groups are small the nearest few items fill them all, and no bitmap of groups is needed.
        count = max(_AT_ONCE, 3 * wanted) + len(excluded)
        some, last = self._ranked(count, min_score, matching, excluded)
        self._join(best, some, group_by)
        if len(best) >= wanted or last:
            return list(best.values())[:wanted]
        # Then round after round over what is in no group yet: one with a million members cannot hide the others.
        left = self._groups(matching, group_by)
        left -= BitMap(excluded)
        seen: set[tuple[bool, object]] = set()
        while len(best) < wanted:
            for name in best.keys() - seen:
                left -= self.fields.group(group_by, best[name].group)
            seen = set(best)
            if not left:
                break
            count = max(_AT_ONCE, 2 * (wanted - len(best)))
            some, last = self._ranked(count, min_score, Matching(left.copy()), frozenset())
            self._join(best, some, group_by, strict=True)
            if last:
                break
        return sorted(best.values(), key=lambda match: -match.score)[:wanted]

    def _ranked(
        self, count: int, min_score: float, matching: Matching | None, excluded: frozenset[int]
    ) -> tuple[list[Match], bool]:
        """Items best first, and whether there are no more of that score."""
        pairs = [pair for pair in self._pairs(count, matching) if pair[0] >= min_score]
        return self._matches([pair for pair in pairs if pair[1] not in excluded]), len(pairs) < count

    @staticmethod
    def _join(
        best: dict[tuple[bool, object], Match], matches: list[Match], group_by: str, *, strict: bool = False
    ) -> None:
        """Adds the first of each new group. strict: raises Moved for an item that has no group any more."""
        for match in matches:
            value = group_value(match.item.metadata, group_by)
            if value is not None:
                best.setdefault((isinstance(value, bool), value), replace(match, group=value))
            elif strict:
                raise Moved


def same_file(
    store: Store, collection: int, fields: Fields, sha256: str, matching: Matching | None
) -> dict[int, float]:
    """A score of 1 by key, for every item that was stored from this file and passes the filter; keys increase."""
    with store.readers.connection() as connection:
        keys = items.keys_by_sha256(connection, collection, sha256)
    found = fields.alive(keys) if matching is None else [key for key in keys if key in matching.keys]
    return dict.fromkeys(found, 1.0)
