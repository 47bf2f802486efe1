"""Rules: how a search orders what it found, as JSON in a query and as JSON text in a form or query string."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, TypeAdapter, ValidationError

from index import filters
from index.errors import FilterError
from index.times import UNIT, instant, is_instant
from service.http.schemas.base import FieldsRefused, Request
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
SPAN = r"^(?:[1-9][0-9]{0,5}(?:\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9])[smhdw]$"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FARTHEST = 1e18


def _which(value: Any) -> filters.Filter:
    """A refusal names the rule: its filter is not the search's."""
    try:
        return selective(value)
    except FilterError as error:
        raise ValueError(str(error)[:400]) from None


Which = Annotated[Any, PlainValidator(_which, json_schema_input_type=SelectiveFilter)]


def _time(text: str) -> str:
    if text != "now" and not is_instant(text):
        raise ValueError("must be an RFC 3339 time, or now")
    return text


Left = Annotated[
    float, Field(ge=0.001, le=0.999, allow_inf_nan=False, description="What is left of the score at `scale`")
]


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


class DecayByNumber(Request):
    """The score shrinks with the distance of a number from `origin`: to `decay` of it at `scale`."""

    key: Key
    origin: Annotated[
        float, Field(ge=-_FARTHEST, le=_FARTHEST, allow_inf_nan=False, description="Where nothing is lost")
    ]
    scale: Annotated[float, Field(ge=1e-9, le=_FARTHEST, allow_inf_nan=False, description="How far away half is lost")]
    decay: Left = 0.5

    def rule(self) -> rules.Decay:
        return rules.Decay(self.key, self.origin, self.scale, self.decay)


class DecayByTime(Request):
    """The same with a time, RFC 3339 text in the metadata."""

    key: Key
    origin: Annotated[
        str,
        AfterValidator(_time),
        Field(description="RFC 3339; left out, or the text `now`: now", json_schema_extra={"format": "date-time"}),
    ] = Field("now", max_length=64)
    scale: Annotated[
        str, Field(pattern=SPAN, max_length=32, description="How far away half is lost: `30d`, `12h`, `1.5w`")
    ]
    decay: Left = 0.5

    def rule(self) -> rules.Decay:
        origin = int(time.time()) * UNIT if self.origin == "now" else instant(self.origin)
        return rules.Decay(
            self.key, origin, float(self.scale[:-1]) * _SECONDS[self.scale[-1]] * UNIT, self.decay, times=True
        )


def _decay(value: Any) -> DecayByNumber | DecayByTime:
    """By the kind of its scale; a refusal speaks of that kind alone."""
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    kind = DecayByTime if isinstance(value.get("scale"), str) else DecayByNumber
    try:
        return kind.read(value)
    except FieldsRefused as refused:
        raise ValueError("; ".join(f"{each['field']} {each['message']}" for each in refused.errors)[:400]) from None


Decay = Annotated[Any, PlainValidator(_decay, json_schema_input_type=DecayByNumber | DecayByTime)]


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
