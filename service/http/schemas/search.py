"""Search: the fields every search takes, as JSON and as text, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator

from index.facets import Found
from service.http.schemas import rules
from service.http.schemas.base import Answer, Blanks, Texts
from service.http.schemas.collections import ThresholdSource
from service.http.schemas.fields import (
    UNGROUPED,
    Cosine,
    Count,
    GroupBy,
    ItemId,
    Metadata,
    Milliseconds,
    Number,
    Score,
    Share,
    Text,
    text,
)
from service.http.schemas.filters import FilterField, FilterText
from service.http.schemas.items import Picture
from service.http.schemas.rules import (
    Boosts,
    BoostsText,
    Buries,
    BuriesText,
    Decays,
    DecaysText,
    Diversity,
    Facets,
    FacetsText,
    Fallback,
    FallbackText,
    PerGroup,
    PerGroupText,
    Pins,
    PinsText,
    Sorts,
    SortsText,
)
from service.search import answer
from service.search.limits import DEFAULT_RESULTS, MAX_OFFSET, MAX_RESULTS
from service.search.rules import Rank

Crop = tuple[float, float, float, float]
Collapse = Annotated[
    Literal["duplicates"], Field(description="Hide near-duplicates of a better result", examples=["duplicates"])
]

_SHARE = r"(?:[01](?:\.[0-9]{0,20})?|\.[0-9]{1,20}|[0-9](?:\.[0-9]{1,20})?[eE]-[0-9]{1,3})"
CROP_PATTERN = rf"^ ?{_SHARE}(?: ?, ?{_SHARE}){{3}} ?$"
_CROP = re.compile(CROP_PATTERN.removeprefix("^").removesuffix("$"))


def cropped(value: Any) -> Crop:
    """From `left,top,right,bottom`; in JSON a list of the four numbers is taken as well. Raises ValueError."""
    if isinstance(value, list) and len(value) == 4 and all(type(each) in (int, float) for each in value):
        left, top, right, bottom = value
    elif isinstance(value, str) and _CROP.fullmatch(value):
        left, top, right, bottom = map(float, value.split(","))
    else:
        raise ValueError("must be left,top,right,bottom: four numbers from 0 to 1")
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("must have 0 ≤ left < right ≤ 1 and 0 ≤ top < bottom ≤ 1")
    return left, top, right, bottom


Limit = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_RESULTS,
        description=f"At most so many results; left out: {DEFAULT_RESULTS}",
        examples=[DEFAULT_RESULTS],
    ),
    UNGROUPED,
]
Offset = Annotated[
    int, Field(ge=0, le=MAX_OFFSET, description="So many of the best are skipped; left out: 0", examples=[0]), UNGROUPED
]
Threshold = Annotated[
    Score, Field(description="Results score at least this; left out: the collection's own", examples=[0.5]), UNGROUPED
]
CropText = Annotated[
    Crop,
    PlainValidator(
        cropped,
        json_schema_input_type=Annotated[
            str,
            Field(
                pattern=CROP_PATTERN,
                max_length=128,
                description="The part to look at: left,top,right,bottom, each 0…1 of the upright image",
                examples=["0.25,0.25,0.75,0.75"],
            ),
        ],
    ),
]


class SearchFields(Blanks):
    """The fields every search takes, as JSON."""

    limit: Limit = DEFAULT_RESULTS
    offset: Offset = 0
    score_threshold: Threshold | None = None
    filter: FilterField | None = Field(None, description="Which items are searched; left out: all")
    group_by: GroupBy | None = None
    facets: Facets | None = None
    total: Annotated[bool, Field(description="Count what scores at least the threshold")] = False
    boost: Boosts | None = None
    bury: Buries | None = None
    decay: Decays | None = None
    sort: Sorts | None = None
    per_group: PerGroup | None = None
    pin: Pins | None = None
    fallback: Fallback | None = None
    diversity: Diversity = 0.0
    collapse: Collapse | None = None
    explain: Annotated[bool, Field(description="Say of each result what the rules did to it")] = False


class SimilarFields(Texts):
    """The fields of a search that needs no picture, as text."""

    blanks: ClassVar[frozenset[str]] = frozenset(
        {"limit", "score_threshold", "filter", "group_by", "offset", "crop", *rules.FIELDS}
    )

    limit: Limit = DEFAULT_RESULTS
    offset: Offset = 0
    score_threshold: Threshold | None = None
    filter: FilterText | None = None
    group_by: GroupBy | None = None
    facets: FacetsText | None = None
    total: Annotated[bool, Field(description="Count what scores at least the threshold")] = False
    boost: BoostsText | None = None
    bury: BuriesText | None = None
    decay: DecaysText | None = None
    sort: SortsText | None = None
    per_group: PerGroupText | None = None
    pin: PinsText | None = None
    fallback: FallbackText | None = None
    diversity: Annotated[Diversity, UNGROUPED] = 0.0
    collapse: Collapse | None = None
    explain: Annotated[bool, Field(description="Say of each result what the rules did to it")] = False


class SearchTexts(SimilarFields):
    """The fields of a search by picture, in a form or a query string."""

    crop: CropText | None = None


class SearchForm(SearchTexts):
    """A picture and how to search by it, as multipart/form-data."""

    image: Picture


class Result(Answer):
    """One item that was found."""

    absent: ClassVar[frozenset[str]] = frozenset({"group", "rank_score", "pinned", "fallback", "why"})

    id: ItemId
    score: Cosine = Field(description="Cosine similarity, −1…1")
    metadata: Metadata = Field(description="The item's")
    thumbnail_url: Annotated[str, text(512, format="uri-reference")] | None = Field(
        description="A path from the origin; null for an item imported as a vector"
    )
    group: Annotated[str, text(65_536)] | int | Number | bool | None = Field(
        None, description="The value of `group_by`; absent without it"
    )
    rank_score: Annotated[float, Field(json_schema_extra={"minimum": -1e6, "maximum": 1e6})] | None = Field(
        None, description="What the rules made of `score`; absent without rules"
    )
    pinned: Literal[True] | None = Field(None, description="It is here because it was pinned")
    fallback: Literal["same_value", "nearest"] | None = Field(
        None, description="It is below the threshold, and fills up: it shares a value with the nearest, or is next"
    )
    why: Annotated[list[Text], Field(max_length=64)] | None = Field(
        None, description="What the rules did to it, with `explain`"
    )


class NumberRange(Answer):
    """The numbers from `gte` up to, without it, `lt`; a bound that is null is not there."""

    gte: float | None = Field(description="The least of them", json_schema_extra={"minimum": -1e308, "maximum": 1e308})
    lt: float | None = Field(description="Above all of them", json_schema_extra={"minimum": -1e308, "maximum": 1e308})


class FacetValue(Answer):
    """A value of a metadata key, or a range of its numbers, and how many items have it."""

    absent: ClassVar[frozenset[str]] = frozenset({"range"})

    value: Annotated[str, text(65_536)] | int | Number | bool | None = Field(
        description="The value; null beside a range"
    )
    range: NumberRange | None = Field(None, description="Where the key has many different numbers")
    count: Count = Field(description="Items that score at least the threshold")
    searched: Count = Field(description="Items that pass the filter")


class Total(Answer):
    """How many items score at least the threshold; `gte`: so many were counted, and there are more."""

    value: Count = Field(description="Items")
    relation: Literal["eq", "gte"] = Field(description="Whether that is all")


class TookMs(Answer):
    """Milliseconds of the stages, and in all."""

    decode: Milliseconds = Field(description="Bytes to pixels")
    embed: Milliseconds = Field(description="Pixels to a vector")
    search: Milliseconds = Field(description="Vector to results")
    total: Milliseconds = Field(description="Since the request arrived")


class SearchResponse(Answer):
    """What was found, best first, or that nothing is similar."""

    absent: ClassVar[frozenset[str]] = frozenset(
        {"facets", "facet_values", "total_above_threshold", "query_id", "p_value"}
    )

    results: Annotated[list[Result], Field(max_length=MAX_RESULTS)] = Field(description="Best first")
    no_match: bool = Field(description="Nothing scores at least the threshold, or there is nothing to search")
    message: Text | None = Field(description="What a person should know; `no similar images` when there is no match")
    best_score: Cosine | None = Field(description="The nearest item's score, whatever the threshold")
    p_value: Share | None = Field(
        None,
        description="The chance that a picture without a match scores at least `best_score`; absent where the "
        "collection was not calibrated on such pictures",
    )
    score_threshold: Cosine = Field(description="What results score at least")
    threshold_source: ThresholdSource = Field(description="Where `score_threshold` comes from")
    filtered_count: Count = Field(description="Items that pass the filter; all, without one")
    model: Text = Field(description="The collection's model")
    took_ms: TookMs
    facets: dict[str, Annotated[list[FacetValue], Field(max_length=50)]] | None = Field(
        None, description="By metadata key, most frequent first or by range; absent where none were asked for"
    )
    facet_values: dict[str, Count] | None = Field(
        None, description="How many different values each of these keys has, also where not all are shown"
    )
    query_id: Annotated[str, text(64)] | None = Field(
        None, description="The picture can be searched with again by it, for a while; absent where none was sent"
    )
    total_above_threshold: Total | None = Field(None, description="Absent where it was not asked for")

    @classmethod
    def of(cls, found: answer.Answer, address: Callable[[str], str], *, explain: bool = False) -> SearchResponse:
        """The same answer as it is sent. address: of a path of this service, as browsers are to ask for it."""
        counted = found.counted
        took = found.took
        items = f"/v1/collections/{found.collection}/items"
        return cls(
            results=[
                Result(
                    id=match.item.id,
                    score=match.score,
                    metadata=dict(match.item.metadata),
                    thumbnail_url=None if match.item.media is None else address(f"{items}/{match.item.id}/thumbnail"),
                    group=match.group,
                    **_rank(found.ranks.get(match.item.id), explain),
                )
                for match in found.matches
            ],
            no_match=found.no_match,
            message=found.message,
            best_score=found.best_score,
            p_value=found.p_value,
            score_threshold=found.threshold.score,
            threshold_source=found.threshold.source,
            filtered_count=found.filtered_count,
            model=found.model,
            took_ms=TookMs(
                decode=round(took.decode, 3),
                embed=round(took.embed, 3),
                search=round(took.search, 3),
                total=round(took.total, 3),
            ),
            query_id=found.query_id,
            facets=None if counted is None or not counted.facets else _facets(counted),
            facet_values=None
            if counted is None or not counted.facets
            else {key: each.different for key, each in counted.facets.items()},
            total_above_threshold=None
            if counted is None
            else Total(value=counted.total, relation="gte" if counted.more else "eq"),
        )


def _rank(found: Rank | None, explain: bool) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "rank_score": round(found.score, 6),
        "pinned": True if found.pinned else None,
        "fallback": found.fallback,
        "why": [line[:256] for line in found.why] if explain else None,
    }


def _facets(counted: Found) -> dict[str, list[FacetValue]]:
    return {
        key: [
            FacetValue(
                value=each.value,
                range=NumberRange(gte=each.low, lt=each.high) if each.ranged else None,
                count=each.count,
                searched=each.among,
            )
            for each in facet.buckets
        ]
        for key, facet in counted.facets.items()
    }
