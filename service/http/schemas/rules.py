"""Rules: how a search orders what it found, as JSON in a query and as JSON text in a form or query string."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema, model_validator

from index import filters
from index.errors import FilterError
from index.times import UNIT, instant, is_instant
from service.http.schemas.base import Request
from service.http.schemas.fields import ItemId
from service.http.schemas.filters import SelectiveFilter, selective
from service.http.schemas.wording import errors_of
from service.search import rules
from service.search.limits import MAX_RESULTS
from service.search.rules import MAX_PINS, MAX_RULES
from service.strict_json import JsonRefused, loads

MAX_JSON = 2**17  # characters of a rule's JSON text
MAX_FACETS = 10
Key = Annotated[str, Field(min_length=1, max_length=256, description="A metadata key, or a dotted path")]
Factor = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, description="What the score is multiplied by")]
_SPAN = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FARTHEST = 1e18


def _which(value: Any) -> filters.Filter:
    """A refusal names the rule: its filter is not the search's."""
    try:
        return selective(value)
    except FilterError as error:
        raise ValueError(str(error)[:400]) from None


Which = Annotated[Any, PlainValidator(_which, json_schema_input_type=SelectiveFilter)]


def _either(description: str) -> WithJsonSchema:
    kinds = {"type": ["number", "string"], "minimum": -_FARTHEST, "maximum": _FARTHEST, "maxLength": 64}
    return WithJsonSchema(kinds | {"description": description})


class Boost(Request):
    """Items that pass the filter have their score multiplied by `factor`, then raised by `add`."""

    filter: Which = Field(description="Which items")
    factor: Factor = 1.0
    add: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False, description="What is added to it then")] = 0.0

    def rule(self) -> rules.Boost:
        return rules.Boost(self.filter, self.factor, self.add)


class Bury(Request):
    """Items that pass the filter come after all others."""

    filter: Which = Field(description="Which items")

    def rule(self) -> filters.Filter:
        return self.filter  # type: ignore[no-any-return]


class Decay(Request):
    """The score shrinks with the distance of a number or a time from `origin`: to `decay` of it at `scale`."""

    key: Key
    origin: Annotated[float | str, _either("A number, an RFC 3339 time, or `now`")]
    scale: Annotated[float | str, _either("A number; with times a span such as `30d` or `12h`")]
    decay: Annotated[
        float, Field(ge=0.001, le=0.999, allow_inf_nan=False, description="What is left of the score there")
    ] = 0.5

    @model_validator(mode="after")
    def _fits(self) -> Decay:
        self.rule()
        return self

    def rule(self) -> rules.Decay:
        """Raises ValueError where origin and scale do not go together."""
        if isinstance(self.origin, str):
            if self.origin != "now" and not is_instant(self.origin):
                raise ValueError("origin must be a number, an RFC 3339 time, or now")
            span = _SPAN.fullmatch(self.scale) if isinstance(self.scale, str) else None
            if span is None or float(span[1]) == 0:
                raise ValueError("scale must be a span such as 30d or 12h where origin is a time")
            origin = int(time.time()) * UNIT if self.origin == "now" else instant(self.origin)
            return rules.Decay(self.key, origin, float(span[1]) * _SECONDS[span[2]] * UNIT, self.decay, times=True)
        if isinstance(self.scale, str) or not 0 < self.scale < _FARTHEST or not abs(self.origin) < _FARTHEST:
            raise ValueError("scale must be a number above 0 where origin is a number")
        return rules.Decay(self.key, float(self.origin), float(self.scale), self.decay)


class Sort(Request):
    """By the value under a key: numbers, then times, then texts; items without one come last."""

    key: Key
    order: Literal["asc", "desc"] = Field("asc", description="Least or greatest first")

    def rule(self) -> rules.Sort:
        return rules.Sort(self.key, self.order == "desc")


class PerGroup(Request):
    """At most so many results with one value under the key."""

    key: Key
    limit: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="Results with one value")] = 1

    def rule(self) -> rules.PerGroup:
        return rules.PerGroup(self.key, self.limit)


class Fallback(Request):
    """What fills up where fewer than `least` pass: first what shares the nearest item's value under `key`."""

    least: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="Results that are wanted in any case")]
    key: Key | None = None

    def rule(self) -> rules.Fallback:
        return rules.Fallback(self.least, self.key)


Facets = Annotated[list[Key], Field(max_length=MAX_FACETS, description="Metadata keys whose values are counted")]
Boosts = Annotated[list[Boost], Field(max_length=MAX_RULES, description="Raise or lower some items")]
Buries = Annotated[list[Bury], Field(max_length=MAX_RULES, description="Put some items last")]
Decays = Annotated[list[Decay], Field(max_length=MAX_RULES, description="Lower what is far from a number or a time")]
Sorts = Annotated[list[Sort], Field(max_length=4, description="Order by metadata instead of by score")]
Pins = Annotated[list[ItemId], Field(max_length=MAX_PINS, description="Items that come first, in this order")]
Diversity = Annotated[
    float, Field(ge=0, le=1, allow_inf_nan=False, description="0: by score alone; 1: as different as can be")
]


def _from_text(kind: Any, name: str) -> Any:
    """A field of a form: JSON text of `kind`."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def read(value: Any) -> Any:
        try:
            decoded = loads(value)
        except JsonRefused as refused:
            raise ValueError(f"must be JSON: {refused}") from None
        try:
            return adapter.validate_python(decoded, strict=True)
        except ValidationError as error:
            first = errors_of(error)[0]
            raise ValueError(f"{first['field']}: {first['message']}"[:400]) from None

    schema = Annotated[
        str,
        Field(
            max_length=MAX_JSON, pattern=r"^\s*[\[\{][\s\S]*[\]\}]\s*$", description=f"JSON text of `{name}` in a query"
        ),
    ]
    return Annotated[Any, PlainValidator(read, json_schema_input_type=schema)]


FacetsText = _from_text(Facets, "facets")
BoostsText = _from_text(Boosts, "boost")
BuriesText = _from_text(Buries, "bury")
DecaysText = _from_text(Decays, "decay")
SortsText = _from_text(Sorts, "sort")
PerGroupText = _from_text(PerGroup, "per_group")
PinsText = _from_text(Pins, "pin")
FallbackText = _from_text(Fallback, "fallback")

RULES = ("boost", "bury", "decay", "sort", "per_group", "pin", "fallback", "diversity", "collapse", "explain")
FIELDS = ("facets", "total", *RULES)


def rules_of(asked: Any) -> rules.Rules:
    """In the domain's own types. asked: the fields of RULES."""
    return rules.Rules(
        boost=tuple(each.rule() for each in asked.boost or ()),
        bury=tuple(each.rule() for each in asked.bury or ()),
        decay=tuple(each.rule() for each in asked.decay or ()),
        sort=tuple(each.rule() for each in asked.sort or ()),
        per_group=None if asked.per_group is None else asked.per_group.rule(),
        pin=tuple(dict.fromkeys(asked.pin or ())),
        fallback=None if asked.fallback is None else asked.fallback.rule(),
        diversity=asked.diversity,
        collapse=asked.collapse == "duplicates",
        explain=asked.explain,
    )
