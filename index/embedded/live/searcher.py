"""One search over one state of a collection: from keys and scores to items, exclusions, thresholds and groups.

Index and store are read one after the other. Where they turn out to be of different moments, Moved is raised.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyroaring import BitMap

from index.embedded.filters.column import group_value
from index.embedded.filters.fields import Fields, Matching
from index.embedded.live.live import LiveIndex
from index.embedded.store import items
from index.embedded.store.store import Store
from index.types import Match, SearchResult, Vector

_AT_ONCE = 32  # candidates per round of grouping, at least


class Moved(Exception):
    """What was found was changed meanwhile: ask again, once that is applied."""


@dataclass(frozen=True, slots=True)
class Searcher:
    """query: float32 (dim,), unit. Every method raises Moved."""

    store: Store
    collection: int
    index: LiveIndex
    fields: Fields
    query: Vector
    exclude: frozenset[str]

    def run(
        self, limit: int, offset: int, *, min_score: float, matching: Matching | None, group_by: str | None
    ) -> SearchResult:
        """As `Collection.search`; matching: the items that pass the filter, None for all."""
        total = len(self.fields) if matching is None else len(matching)
        excluded = self._excluded()
        if group_by is not None:
            best = self._best(matching, excluded)
            found = self._grouped(limit + offset, min_score, matching, group_by, excluded)
            return SearchResult(found[offset:], best, total)
        scores, keys = self.index.search(self.query, limit + offset + len(excluded), matching)
        pairs = [pair for pair in zip(scores.tolist(), keys.tolist(), strict=True) if pair[1] not in excluded]
        best = pairs[0][0] if pairs else None
        kept = [pair for pair in pairs[offset : offset + limit] if pair[0] >= min_score]
        return SearchResult(self._matches(kept), best, total)

    def _excluded(self) -> frozenset[int]:
        if not self.exclude:
            return frozenset()
        with self.store.readers.connection() as connection:
            return frozenset(items.keys_by_id(connection, self.collection, self.exclude).values())

    def _best(self, matching: Matching | None, excluded: frozenset[int]) -> float | None:
        scores, keys = self.index.search(self.query, 1 + len(excluded), matching)
        return next((float(s) for s, key in zip(scores, keys.tolist(), strict=True) if key not in excluded), None)

    def _matches(self, pairs: list[tuple[float, int]]) -> list[Match]:
        with self.store.readers.connection() as connection:
            rows = items.rows_by_key(connection, self.collection, (key for _, key in pairs))
        if len(rows) < len(pairs) or any(row.item.id in self.exclude for row in rows.values()):
            raise Moved
        return [Match(rows[key].item, score) for score, key in pairs]

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
        left = self.fields.grouped(group_by)
        if matching is not None:
            left &= matching.keys
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
        scores, keys = self.index.search(self.query, count, matching)
        pairs = [pair for pair in zip(scores.tolist(), keys.tolist(), strict=True) if pair[0] >= min_score]
        return self._matches([pair for pair in pairs if pair[1] not in excluded]), len(pairs) < count

    @staticmethod
    def _join(
        best: dict[tuple[bool, object], Match], matches: list[Match], group_by: str, *, strict: bool = False
    ) -> None:
        """Adds the first of each new group. strict: raises Moved for an item that has no group any more."""
        for match in matches:
            value = group_value(match.item.metadata, group_by)
            if value is not None:
                best.setdefault((isinstance(value, bool), value), Match(match.item, match.score, value))
            elif strict:
                raise Moved
