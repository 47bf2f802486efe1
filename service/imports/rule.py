"""What writing a picture means, whoever writes it: the one rule of `PUT item` and of every import.

The same bytes are never embedded again: new metadata alone is written, and where that is the same too, nothing is.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from index.items import Item


@dataclass(frozen=True, slots=True)
class Stored:
    """What a collection holds under an id. sha256: of the picture's bytes; None for an imported vector.

    created_at, updated_at: UTC seconds; 0 where they are not known here.
    """

    sha256: str | None
    metadata: Mapping[str, Any]
    created_at: float = 0.0
    updated_at: float = 0.0


class Action(enum.Enum):
    """What to do about a picture."""

    KEEP = "keep"
    DESCRIBE = "describe"  # same bytes, other metadata: no embedding
    EMBED = "embed"


@dataclass(frozen=True, slots=True)
class Upsert:
    """A write decided on. metadata: all that the item holds afterwards."""

    action: Action
    metadata: Mapping[str, Any]


def upsert(stored: Stored | None, sha256: str, metadata: Mapping[str, Any], *, merge: bool = False) -> Upsert:
    """Decides about a picture with this sha256 and metadata.

    merge: keys that only the stored item has are kept, as an import must not remove what a person added; otherwise
    `metadata` replaces what is stored.
    """
    wanted = {**stored.metadata, **metadata} if merge and stored is not None else metadata
    if stored is None or stored.sha256 != sha256:
        return Upsert(Action.EMBED, wanted)
    return Upsert(Action.KEEP if same_json(stored.metadata, wanted) else Action.DESCRIBE, wanted)


def stored_of(item: Item) -> Stored:
    """What the rule looks at of an item."""
    return Stored(item.media.sha256 if item.media else None, item.metadata, item.created_at, item.updated_at)


def same_json(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two objects are the same JSON; in Python 1, 1.0 and true are equal, to a filter they are not."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)
