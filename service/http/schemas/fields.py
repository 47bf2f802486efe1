"""Fields that several requests and answers share: each pattern, range and limit once.

Numbers of answers carry their range in the document only: an answer is not withheld because a sum came out odd.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from index.limits import ID_PATTERN, ID_RULE, MAX_ID, MAX_NAME, NAME_PATTERN, NAME_RULE

MAX_PAGE = 1000  # entries of a page of a list
MAX_DELETED = 10_000  # ids of one request
MAX_DIM = 65_536
# What a double holds exactly: clients in JavaScript have no other numbers.
SAFE = 2**53 - 1


def _ungrouped(value: Any) -> Any:
    if isinstance(value, str) and "_" in value:  # Python's 1_000, which pydantic reads too
        raise ValueError("must be a number")
    return value


# Of a number that a form or a query string may bring.
UNGROUPED = BeforeValidator(_ungrouped)

ItemId = Annotated[
    str, Field(pattern=ID_PATTERN, min_length=1, max_length=MAX_ID, description=ID_RULE, examples=["shirt-1"])
]
Name = Annotated[
    str, Field(pattern=NAME_PATTERN, min_length=1, max_length=MAX_NAME, description=NAME_RULE, examples=["default"])
]
Score = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
GroupBy = Annotated[
    str, Field(min_length=1, max_length=256, description="A metadata key: the best item of each of its values")
]
# Any JSON object; what may be in it is checked by `service.imports.put`.
Metadata = Annotated[dict[str, Any], Field(examples=[{"brand": "acme", "price": 12.5}])]


# The least that JSON text of an object has; what a reader of JSON says of it, no pattern can.
OBJECT_PATTERN = r"^\s*\{[\s\S]*\}\s*$"


def text(length: int, **keywords: Any) -> Any:
    """Of an answer: at most `length` characters."""
    return Field(json_schema_extra={"maxLength": length, **keywords})


# What a request may bring is bounded by its bytes; an empty file is refused as what it is, no picture.
Base64 = Annotated[str, text(2**32, minLength=1)]
Text = Annotated[str, text(256)]
Timestamp = Annotated[str, text(32, format="date-time", examples=["2026-11-25T12:00:00.000Z"])]
Count = Annotated[int, Field(json_schema_extra={"minimum": 0, "maximum": SAFE, "format": "int64"})]
# Of metadata: any number that a double holds.
LARGEST = 1.7976931348623157e308
Number = Annotated[float, Field(json_schema_extra={"minimum": -LARGEST, "maximum": LARGEST})]
Share = Annotated[float, Field(json_schema_extra={"minimum": 0, "maximum": 1})]
Cosine = Annotated[float, Field(json_schema_extra={"minimum": -1, "maximum": 1})]
Milliseconds = Annotated[float, Field(json_schema_extra={"minimum": 0, "maximum": SAFE})]
Seconds = Milliseconds


def timestamp(seconds: float) -> str:
    """UTC seconds as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
