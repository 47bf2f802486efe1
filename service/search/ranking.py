"""Ranking: what a search found, put into the order that its rules ask for, with pins before and fallbacks behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from index.errors import ItemNotFound
from index.filters import Filter, token, values_at
from index.filters import Match as Equals
from index.items import Match, SearchResult, Vector
from index.types import Collection
from service.search.query import Query
from service.search.rules import WINDOW, Rank, Rules, ordered, rank

Ranked = tuple[Match, Rank]

# Cosine from which two results count as one picture: the same one scaled to half or saved again scores .98 and more
# under the networks here, two products that merely look alike rarely .97. It hides results and decides nothing else.
DUPLICATE = 0.98
DIVERSE = 100  # of the best results, among which `diversity` chooses


@dataclass(frozen=True, slots=True)
class Ranking:
    """matches: in order, `offset` and `limit` applied; ranks: by id."""

    matches: list[Match]
    ranks: dict[str, Rank]


def window(query: Query) -> tuple[int, int]:
    """limit and offset of the search that the rules need."""
    return max(WINDOW, query.offset + query.limit), 0


def ranked(
    collection: Collection, vector: Vector, query: Query, rules: Rules, found: SearchResult, least: float
) -> Ranking:
    """found: the nearest above `least`, the window long. Blocks. Raises what searching raises."""
    pairs = ordered(found.matches, rules)
    if rules.collapse or rules.diversity:
        pairs = _apart(collection, pairs, rules)
    matched = found.best_score is not None and found.best_score >= least
    if rules.pin and matched:
        pairs = _pinned(collection, vector, query, rules) + [pair for pair in pairs if pair[0].item.id not in rules.pin]
    pairs = pairs[query.offset : query.offset + query.limit]
    wanted = 0 if rules.fallback is None else min(rules.fallback.least, query.limit) - len(pairs)
    if wanted > 0 and query.offset == 0 and found.best_score is not None:
        pairs += _fallback(collection, vector, query, rules, {match.item.id for match, _ in pairs}, wanted)
    return Ranking([match for match, _ in pairs], {match.item.id: rank for match, rank in pairs})


def _apart(collection: Collection, pairs: Sequence[Ranked], rules: Rules) -> list[Ranked]:
    """Without near-duplicates of a better result, then by turns near to the query and far from what was taken."""
    rows = _vectors(collection, pairs)
    if rules.collapse:
        alike = rows @ rows.T >= DUPLICATE
        kept: list[int] = []
        files: set[str] = set()
        for place, (match, _) in enumerate(pairs):
            file = "" if match.item.media is None else match.item.media.sha256
            if not alike[place, kept].any() and file not in files:
                kept.append(place)
                files |= {file} - {""}
        pairs, rows = [pairs[place] for place in kept], rows[kept]
    if rules.diversity and len(pairs) > 2:
        pairs = _diverse(list(pairs), rows, rules.diversity)
    return list(pairs)


def _diverse(pairs: list[Ranked], rows: Vector, diversity: float) -> list[Ranked]:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998) over the first DIVERSE."""
    head, near = pairs[:DIVERSE], rows[:DIVERSE]
    scores = np.array([rank.score for _, rank in head], np.float32)
    left = list(range(len(head)))
    taken = [left.pop(0)]
    closest = near @ near[taken[0]]
    while left:
        worth = (1 - diversity) * scores[left] - diversity * closest[left]
        best = left.pop(int(np.argmax(worth)))
        taken.append(best)
        closest = np.maximum(closest, near @ near[best])
    return [head[place] for place in taken] + pairs[DIVERSE:]


def _vectors(collection: Collection, pairs: Sequence[Ranked]) -> Vector:
    """Unit rows; one that has gone meanwhile is zeros, like nothing."""
    rows = np.zeros((len(pairs), collection.dim), np.float32)
    try:
        rows[:] = collection.vectors([match.item.id for match, _ in pairs])
    except ItemNotFound:
        for place, (match, _) in enumerate(pairs):
            try:
                rows[place] = collection.vectors([match.item.id])[0]
            except ItemNotFound:
                continue
    return rows


def _pinned(collection: Collection, vector: Vector, query: Query, rules: Rules) -> list[Ranked]:
    """The pinned items that exist and pass the filter, with their scores."""
    unit = vector / np.linalg.norm(vector)
    found = []
    for id in rules.pin:
        if id in query.excluded:
            continue
        try:
            item, row = collection.get(id), collection.vectors([id])[0]
        except ItemNotFound:
            continue
        if query.filter is None or query.filter.accepts(item.metadata):
            match = Match(item, float(np.clip(row @ unit, -1, 1)))
            found.append((match, _also(rank(match, rules), "pinned", pinned=True)))
    return found


def _fallback(
    collection: Collection, vector: Vector, query: Query, rules: Rules, shown: set[str], wanted: int
) -> list[Ranked]:
    assert rules.fallback is not None
    found: list[Ranked] = []
    away = [*shown, *rules.pin]
    if rules.fallback.key is not None and (nearest := _nearest(collection, vector, query, [], 1, query.filter)):
        key = rules.fallback.key
        value = next(values_at(nearest[0].item.metadata, key), None)
        if value is not None:
            same = Equals(key, frozenset([token(value)]))
            filter = query.filter or Filter()
            filter = replace(filter, must=(*filter.must, same))
            for match in _nearest(collection, vector, query, away, wanted, filter):
                why = f"same {key} as the nearest"
                found.append((match, _also(rank(match, rules), why, fallback="same_value")))
    away += [match.item.id for match, _ in found]
    if len(found) < wanted:
        rest = _nearest(collection, vector, query, away, wanted - len(found), query.filter)
        found += [(match, _also(rank(match, rules), "nearest", fallback="nearest")) for match in rest]
    return found


def _nearest(
    collection: Collection, vector: Vector, query: Query, away: Sequence[str], limit: int, filter: Filter | None
) -> list[Match]:
    exclude = [*away, *query.excluded]
    return collection.search(vector, limit=limit, filter=filter, exclude=exclude).matches


def _also(rank: Rank, why: str, **changes: object) -> Rank:
    return replace(rank, why=(*rank.why, why), **changes)  # type: ignore[arg-type]
