"""Which queries can be judged: those that have something to find in the catalogue; the others are told and left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from service.evaluation.embedding import Embedded
from service.evaluation.figures import Seen
from service.evaluation.ranking import Listed, rank
from service.evaluation.table import Complaint, Queries, Query

_NAMED = 5
MAX_TOLD = 20  # labels that are named; all are counted


class EvaluationRefused(Exception):
    """There is nothing to be evaluated. One line: what is missing."""


def findable(queries: Queries, listed: Listed, key: str, keys: Sequence[str]) -> tuple[list[Query], list[Complaint]]:
    """The queries that are strangers or whose label or id the catalogue has. Raises EvaluationRefused."""
    asked = [each for each in queries.queries if each.wanted]
    if queries.by == "id":
        there = set(listed.ids)
    else:
        there = {label for labels in listed.labels for label in labels}
        if asked and not there:
            others = f"; items have {', '.join(keys[:8])}" if keys else ""
            raise EvaluationRefused(f"no item has a value under the metadata key {key[:60]}: name another{others}")
    kept = [each for each in queries.queries if not each.wanted or each.wanted in there]
    missing = Counter(each.wanted for each in asked if each.wanted not in there)
    if asked and len(missing.keys()) and not any(each.wanted for each in kept):
        first = next(iter(missing))[:60]
        hint = " (a table's own ids? --by label)" if queries.by == "id" else f" under the metadata key {key[:60]}"
        raise EvaluationRefused(f"no item has any {queries.by} of the column {queries.column}, as {first!r}{hint}")
    told = [
        Complaint(f"{queries.by} {wanted[:100]}", f"no item has it; {count:,} {_queries(count)} left out")
        for wanted, count in missing.most_common(MAX_TOLD)
    ]
    if len(missing) > MAX_TOLD:
        rest = sum(missing.values()) - sum(count for _, count in missing.most_common(MAX_TOLD))
        told.append(
            Complaint(f"{len(missing) - MAX_TOLD:,} more {queries.by}s", f"no item has them; {rest:,} queries left out")
        )
    return kept, told


def labels_of(wanted: Sequence[str], listed: Listed, by: str) -> list[str]:
    """The label of each query: what it should find, or the first label of the item that it names."""
    if by == "label":
        return list(wanted)
    labels = {id: (each[0] if each else "") for id, each in zip(listed.ids, listed.labels, strict=True)}
    return [labels.get(each, "") for each in wanted]


def see(
    asked: Sequence[Query],
    queries: Embedded,
    listed: Listed,
    blocks: Callable[[], Iterable[npt.NDArray[np.float32]]],
    by: str,
) -> tuple[Seen, list[Complaint], list[int]]:
    """The queries that could be judged, what to say of the others, and their places among the embedded ones."""
    wanted = [asked[number].wanted for number in queries.kept]
    ranked = rank(queries.vectors, wanted, queries.files, listed, blocks, by_id=by == "id")
    lonely = [n for n, each in enumerate(ranked.judged) if wanted[n] and not each.relevant]
    complaints = [
        Complaint(asked[queries.kept[n]].name, "is itself the only item that it should find; left out")
        for n in lonely[:_NAMED]
    ]
    if len(lonely) > len(complaints):
        complaints.append(Complaint(f"{len(lonely) - len(complaints):,} more queries", "likewise"))
    inside = sum(each.same > 0 for each in ranked.judged)
    if inside:
        why = "in the catalogue byte for byte: searched without itself"
        complaints.append(Complaint(f"{inside:,} {_queries(inside)}", why))
    kept = sorted(set(range(len(wanted))) - set(lonely))
    names = [asked[queries.kept[n]].name for n in kept]
    labels = labels_of(wanted, listed, by)
    seen = Seen(names, [wanted[n] for n in kept], [labels[n] for n in kept], ranked.only(kept))
    return seen, complaints, kept


def _queries(count: int) -> str:
    return "query" if count == 1 else "queries"
