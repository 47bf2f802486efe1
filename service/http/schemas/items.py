"""Item: one entry of a collection, as it is sent, put, listed, changed and deleted."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from index import types
from service.http.schemas.base import Answer, Request
from service.http.schemas.fields import (
    MAX_DELETED,
    MAX_PAGE,
    Count,
    ItemId,
    Metadata,
    Timestamp,
    text,
    timestamp,
)
from service.http.schemas.filters import FilterText
from service.http.schemas.pages import Page, PageFields

Picture = Annotated[
    str,
    Field(
        description="The picture's file: JPEG, PNG or WebP",
        # `format` is what generators of OpenAPI 3.0 know, `contentMediaType` what those of 3.1 know.
        json_schema_extra={"format": "binary", "contentMediaType": "application/octet-stream"},
    ),
]


class Image(Answer):
    """The uploaded file; width and height in pixels, upright."""

    width: Count
    height: Count
    format: Annotated[str, text(16, examples=["jpeg"])]
    bytes: Count
    sha256: Annotated[str, text(64, pattern="^[0-9a-f]{64}$")]


class Item(Answer):
    """One entry of a collection."""

    id: ItemId
    metadata: Metadata
    image: Image | None = Field(description="null for an item imported as a vector")
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, item: types.Item) -> Item:
        """The same item as it is sent."""
        media = item.media
        return cls(
            id=item.id,
            metadata=dict(item.metadata),
            image=media
            and Image(
                width=media.width, height=media.height, format=media.format, bytes=media.bytes, sha256=media.sha256
            ),
            created_at=timestamp(item.created_at),
            updated_at=timestamp(item.updated_at),
        )


class ItemPage(Page):
    """Items in the order of their ids."""

    items: Annotated[list[Item], Field(max_length=MAX_PAGE)]


class ItemForm(Request):
    """A picture and what is known of it, as multipart/form-data."""

    image: Picture
    metadata: str = Field("{}", max_length=65_536, description="A JSON object as text; left out: an empty one")


class MetadataPatch(Request):
    """What changes in an item's metadata."""

    metadata: dict[str, Any] = Field(
        description="RFC 7396 merge patch; null removes a key", examples=[{"price": 11, "sale": True}]
    )


class ListFields(PageFields):
    """Which items, and how many at a time."""

    filter: FilterText | None = None


class DeleteRequest(Request):
    """Exactly one of the two."""

    ids: list[ItemId] | None = Field(None, fail_fast=True, max_length=MAX_DELETED)
    filter: dict[str, Any] | None = None


class Deleted(Answer):
    """How many items were deleted."""

    deleted: Count
