"""Rows of a file: an id and metadata, or why a row cannot be imported; a bad row costs itself."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import orjson

from index.limits import MAX_METADATA
from service.imports.sources.source import Source, Unreadable


class Row(NamedTuple):
    """A row's id and metadata."""

    id: str
    metadata: Mapping[str, Any]


class Fault(NamedTuple):
    """Why a row cannot be imported; slug: one of `REASONS`."""

    reason: str
    slug: str = "invalid-row"


def described(id: str, metadata: Any) -> Row | Fault:
    """A row whose metadata is what JSON can carry: times as RFC 3339 texts, decimals as numbers, NaN as null."""
    if not metadata:
        return Row(id, {})
    if not isinstance(metadata, Mapping):
        return Fault("the metadata must be a JSON object", "invalid-metadata")
    try:
        text = orjson.dumps(metadata, default=_plain)
    except (TypeError, orjson.JSONEncodeError) as error:
        return Fault(f"the metadata is no JSON ({error})", "invalid-metadata")
    if len(text) > MAX_METADATA:
        return Fault(
            f"the metadata takes {len(text):,} bytes as JSON, at most {MAX_METADATA:,} are allowed", "invalid-metadata"
        )
    return Row(id, orjson.loads(text))


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"of type {type(value).__name__}")


def refused(fault: Fault, where: str, id: str = "") -> Source:
    """A source that cannot be read, so that it is counted and reported in its place."""
    return Source(id, {}, partial(_refused, fault), where)


def _refused(fault: Fault, max_bytes: int) -> bytes:
    raise Unreadable(fault.reason, fault.slug)
