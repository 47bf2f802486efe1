"""The answer to a query, in the domain's own types: HTTP and the command line only translate it.

No match is an answer, not an error: the nearest item scores below the threshold, or there is nothing to search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from index.types import Match, SearchResult
from service.search.thresholds import Threshold

NO_MATCH = "no similar images"


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


def answer_of(
    found: SearchResult, *, collection: str, model: str, least: Threshold, group_by: str | None, took: Took
) -> Answer:
    """Decides whether there is a match."""
    no_match = found.best_score is None or found.best_score < least.score
    return Answer(
        collection=collection,
        model=model,
        matches=found.matches,
        no_match=no_match,
        message=NO_MATCH if no_match else None,
        best_score=found.best_score,
        threshold=least,
        filtered_count=found.filtered_count,
        group_by=group_by,
        took=took,
    )
