"""Filter: conditions on metadata. What it means is decided by `index.filters` alone; here is what it looks like.

A clause that is null or an empty list counts as left out, as fields of a search do; a null in `match` or `any` is a
value.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema

from index import filters
from index.errors import FilterError
from index.filters import MAX_CONDITIONS, MAX_VALUES
from service.http.schemas.base import Request
from service.http.schemas.fields import LARGEST, OBJECT_PATTERN, text
from service.strict_json import JsonRefused, loads

MAX_FILTER = 2**20  # characters of JSON
MAX_TEXT = 2**24  # of a key or value; the body's limit comes first
EXAMPLE: Any = {"must": [{"key": "price", "range": {"gte": 10, "lt": 20}}]}

Key = Annotated[str, text(MAX_TEXT, minLength=1), Field(description="A metadata key, or a dotted path")]
NUMBER = {"minimum": -LARGEST, "maximum": LARGEST}
Value = Annotated[
    Any, WithJsonSchema({"type": ["string", "number", "boolean", "null"], "maxLength": MAX_TEXT, **NUMBER})
]
Bound = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["number", "string"],
            "description": "A number, or a time as RFC 3339 text",
            "format": "date-time",
            "maxLength": 64,
            **NUMBER,
        }
    ),
]


class MatchCondition(Request):
    """One of the values under the key equals this one; 1 and 1.0 are equal, 1 and "1" are not."""

    key: Key
    match: Value = Field(description="A null is a value like any other")


class AnyCondition(Request):
    """One of the values under the key equals one of these."""

    key: Key
    any: Annotated[list[Value], Field(max_length=MAX_VALUES)] = Field(description="Values of one kind or several")


class Range(Request):
    """Bounds; those that are not given are infinite."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    gt: Bound = None
    gte: Bound = None
    lt: Bound = None
    lte: Bound = None


class RangeCondition(Request):
    """One of the values under the key lies within the bounds."""

    key: Key
    range: Range


Conditions = Annotated[list[MatchCondition | AnyCondition | RangeCondition], Field(max_length=MAX_CONDITIONS)] | None


class Filter(Request):
    """All of `must`, at least one of `should` where there are any, none of `must_not`."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    must: Conditions = Field(None, description="All of these hold")
    should: Conditions = Field(None, description="At least one of these holds, where there are any")
    must_not: Conditions = Field(None, description="None of these holds")


class SelectiveFilter(Filter):
    """A filter with at least one condition."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "not": {"properties": {clause: {"maxItems": 0} for clause in ("must", "should", "must_not")}},
        }
    )


def parsed(value: Any) -> filters.Filter:
    """From decoded JSON; JSON text is taken too, as forms carry it. Raises FilterError."""
    if isinstance(value, str):
        return parsed_text(value)
    if isinstance(value, dict):
        value = {clause: each for clause, each in value.items() if each is not None}
    return filters.parse_filter(value)


def selective(value: Any) -> filters.Filter:
    """From decoded JSON. Raises FilterError for a filter that everything passes, too."""
    filter = parsed(value)
    if filter.empty:
        raise FilterError("", "has no condition, so every item would pass; name the items, or delete the collection")
    return filter


def parsed_text(value: Any) -> filters.Filter:
    """From JSON text. Raises FilterError."""
    try:
        decoded = loads(value)
    except JsonRefused as refused:
        raise FilterError("", str(refused)) from None
    if not isinstance(decoded, dict):
        raise FilterError("", "must be a JSON object")
    return parsed(decoded)


# A field's value is an `index.filters.Filter`; were it annotated so, the document would have two types of one name.
FilterField = Annotated[Any, PlainValidator(parsed, json_schema_input_type=Filter)]
SelectiveField = Annotated[Any, PlainValidator(selective, json_schema_input_type=SelectiveFilter)]
FilterText = Annotated[
    Any,
    PlainValidator(
        parsed_text,
        json_schema_input_type=Annotated[
            str,
            Field(
                max_length=MAX_FILTER,
                pattern=OBJECT_PATTERN,
                description='A Filter as JSON text, such as `{"must":[{"key":"brand","match":"acme"}]}`',
            ),
        ],
    ),
]
