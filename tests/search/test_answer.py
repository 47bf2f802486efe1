"""What counts as a match, and what a person reads where there is none."""

from __future__ import annotations

import pytest

from index.items import Item, Match, SearchResult
from service.search.answer import NO_GROUPS, NO_MATCH, PLAIN, Answer, Took, answer_of
from service.search.thresholds import Threshold, threshold


def match(id: str, score: float, *, same: bool = False) -> Match:
    return Match(Item(id, {}, None, 0.0, 0.0), score, same=same)


def answered(found: SearchResult, least: float = 0.5, *, plain: bool = False, group_by: str | None = None) -> Answer:
    return answer_of(
        found,
        collection="default",
        model="m",
        least=Threshold(least, "request"),
        group_by=group_by,
        plain=plain,
        took=Took(0, 0, 0, 0),
    )


NEAR, FAR, SAME = match("near", 0.7), match("far", 0.6), match("same", 1.0, same=True)


@pytest.mark.parametrize(
    ("found", "least", "plain", "ids", "no_match", "message"),
    [
        (SearchResult([NEAR, FAR], 0.7, 9), 0.5, False, ["near", "far"], False, None),
        (SearchResult([NEAR], 0.7, 9), 0.7, False, ["near"], False, None),
        (SearchResult([], 0.7, 9), 0.8, False, [], True, NO_MATCH),
        (SearchResult([], None, 0), -1.0, False, [], True, NO_MATCH),
        (SearchResult([], 0.7, 9), 0.5, False, [], False, None),  # an offset past the end
        (SearchResult([], 0.7, 9, groupable=False), 0.5, False, [], False, NO_GROUPS),
        (SearchResult([], 0.7, 9, groupable=False), 0.8, False, [], True, NO_MATCH),
        (SearchResult([SAME], 1.0, 9, same=1), 1.0, False, ["same"], False, None),
        (SearchResult([NEAR, FAR], 0.7, 9), 0.5, True, [], True, PLAIN),
        (SearchResult([], 0.7, 9), 0.8, True, [], True, PLAIN),
        (SearchResult([], None, 0), 0.8, True, [], True, PLAIN),
        (SearchResult([SAME, NEAR], 1.0, 9, same=1), 0.5, True, ["same"], False, None),
        (SearchResult([NEAR], 1.0, 9, same=1), 0.5, True, [], False, None),  # the second page
    ],
)
def test_a_match_reaches_the_threshold_and_a_plain_picture_only_matches_its_own_file(
    found: SearchResult, least: float, plain: bool, ids: list[str], no_match: bool, message: str | None
) -> None:
    answer = answered(found, least, plain=plain)
    assert [each.item.id for each in answer.matches] == ids
    assert (answer.no_match, answer.message, answer.best_score) == (no_match, message, found.best_score)


def test_every_message_of_no_match_begins_alike() -> None:
    assert NO_MATCH == "no similar images" and PLAIN.startswith(NO_MATCH) and not NO_GROUPS.startswith(NO_MATCH)


@pytest.mark.parametrize(
    ("request_", "collection", "expected"),
    [
        (0.2, 0.4, (0.2, "request")),
        (0.0, 0.4, (0.0, "request")),
        (None, 0.4, (0.4, "collection")),
        (None, 0.0, (0.0, "collection")),
        (None, None, (0.6, "model_default")),
    ],
)
def test_the_nearest_threshold_counts(
    request_: float | None, collection: float | None, expected: tuple[float, str]
) -> None:
    assert threshold(request_, collection, 0.6) == expected
