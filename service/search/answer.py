"""The answer to a query, in the domain's own types: HTTP and the command line only translate it.

No match is an answer, not an error: the nearest item scores below the threshold, or there is nothing to search. A
picture of one colour is like nothing, whatever its vector scores: only items stored from the same file match it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from index.facets import Found
from index.items import Match, SearchResult
from service.search.calibrated import Calibrated
from service.search.ranking import Ranking
from service.search.rules import Rank
from service.search.thresholds import Threshold

NO_MATCH = "no similar images"
NO_GROUPS = "nothing to group: no item searched has one value under the metadata key that group_by names"
PLAIN = "no similar images: the picture shows one colour and almost nothing else"


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds: of the stages, and in all since the request arrived."""

    decode: float
    embed: float
    search: float
    total: float


@dataclass(frozen=True, slots=True)
class Answer:
    """matches: best first, each with score >= threshold.score. message: what a person should know, else None.

    best_score: the nearest item's, whatever threshold and offset; None where there is nothing to search.
    filtered_count: items that pass the filter. group_by: the metadata key the matches are grouped by, if any.
    ranks: by id, where rules ordered the matches. counted: facets and total, where they were asked for.
    query_id: under which the picture can be asked about again. p_value: of the best score, where the collection was
    calibrated on pictures without a match.
    """

    collection: str
    model: str
    matches: Sequence[Match]
    no_match: bool
    message: str | None
    best_score: float | None
    threshold: Threshold
    filtered_count: int
    group_by: str | None
    took: Took
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    counted: Found | None = None
    query_id: str | None = None
    p_value: float | None = None


def answer_of(
    found: SearchResult,
    *,
    collection: str,
    model: str,
    least: Threshold,
    group_by: str | None,
    plain: bool,
    took: Took,
    ranking: Ranking | None = None,
    counted: Found | None = None,
    query_id: str | None = None,
    calibrated: Calibrated | None = None,
) -> Answer:
    """Decides whether there is a match. plain: what is looked for shows one colour and almost nothing else."""
    matches = found.matches if ranking is None else ranking.matches
    no_match = found.best_score is None or found.best_score < least.score
    message = NO_MATCH if no_match else None if found.groupable else NO_GROUPS
    if plain and not found.same:
        matches, no_match, message = [], True, PLAIN
        counted = None if counted is None else counted.none_found
    elif plain:
        matches = [match for match in matches if match.same]
    return Answer(
        collection=collection,
        model=model,
        matches=matches,
        no_match=no_match,
        message=message,
        best_score=found.best_score,
        threshold=least,
        filtered_count=found.filtered_count,
        group_by=group_by,
        took=took,
        ranks={} if ranking is None else ranking.ranks,
        counted=counted,
        query_id=query_id,
        p_value=None if calibrated is None else calibrated.p_value(found.best_score),
    )
