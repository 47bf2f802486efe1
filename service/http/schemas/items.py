"""Item: one entry of a collection, as it is sent, put, listed, changed and deleted."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, RootModel

from index import items
from index.limits import MAX_METADATA
from service.exports.export import Format
from service.http.schemas.base import Answer, FieldsRefused, Request, Texts, refuse_unknown
from service.http.schemas.fields import (
    MAX_DELETED,
    MAX_PAGE,
    OBJECT_PATTERN,
    Count,
    ItemId,
    Metadata,
    Timestamp,
    text,
    timestamp,
)
from service.http.schemas.filters import FilterText, SelectiveField
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

    width: Count = Field(description="Pixels, upright")
    height: Count = Field(description="Pixels, upright")
    format: Annotated[str, text(16, examples=["jpeg"])] = Field(description="By the bytes, not the name")
    bytes: Count = Field(description="Size of the upload")
    sha256: Annotated[str, text(64, pattern="^[0-9a-f]{64}$")] = Field(
        description="Of the uploaded bytes, in lower-case hex"
    )

    @classmethod
    def of(cls, media: items.Media) -> Image:
        """The same file as it is described."""
        return cls(width=media.width, height=media.height, format=media.format, bytes=media.bytes, sha256=media.sha256)


class Item(Answer):
    """One entry of a collection."""

    id: ItemId
    metadata: Metadata = Field(description="What was put with it")
    image: Image | None = Field(description="null for an item imported as a vector")
    created_at: Timestamp = Field(description="RFC 3339, UTC")
    updated_at: Timestamp = Field(description="RFC 3339, UTC")

    @classmethod
    def of(cls, item: items.Item) -> Item:
        """The same item as it is sent."""
        media = item.media
        return cls(
            id=item.id,
            metadata=dict(item.metadata),
            image=None if media is None else Image.of(media),
            created_at=timestamp(item.created_at),
            updated_at=timestamp(item.updated_at),
        )


class ItemPage(Page):
    """Items in the order of their ids."""

    items: Annotated[list[Item], Field(max_length=MAX_PAGE)] = Field(description="At most as many as were asked for")


class ItemForm(Request):
    """A picture and what is known of it, as multipart/form-data."""

    image: Picture
    metadata: str = Field(
        "{}",
        max_length=MAX_METADATA,
        json_schema_extra={"pattern": OBJECT_PATTERN},
        description="A JSON object as text; left out: an empty one",
        examples=['{"brand": "acme", "price": 12.5}'],
    )


class MetadataPatch(Request):
    """What changes in an item's metadata."""

    metadata: dict[str, Any] = Field(
        description="RFC 7396 merge patch; null removes a key", examples=[{"price": 11, "sale": True}]
    )


class ListFields(PageFields):
    """Which items, and how many at a time."""

    blanks: ClassVar[frozenset[str]] = PageFields.blanks | {"filter"}

    filter: FilterText | None = None


class ExportFields(Texts):
    """What is exported, and as what."""

    blanks: ClassVar[frozenset[str]] = frozenset({"filter", "vectors", "format"})

    format: Format = Field("jsonl", description="The kind of file; left out: jsonl")
    vectors: bool = Field(True, description="With the vectors, without which only a zip imports again; left out: true")
    filter: FilterText | None = None


class DeleteByIds(Request):
    """The items to delete; those that are not there count as nothing."""

    ids: list[ItemId] = Field(fail_fast=True, max_length=MAX_DELETED, description="What to delete")


class DeleteByFilter(Request):
    """Which items to delete."""

    filter: SelectiveField


class DeleteRequest(RootModel[DeleteByIds | DeleteByFilter]):
    """Exactly one of the two."""


def read_delete(value: Any) -> DeleteByIds | DeleteByFilter:
    """From decoded JSON. Raises FieldsRefused, FilterError."""
    if not isinstance(value, dict):
        raise FieldsRefused([{"field": "body", "message": "must be an object"}])
    refuse_unknown(value, {"ids": None, "filter": None})
    given = {name: each for name, each in value.items() if each is not None}
    if len(given) != 1:
        raise FieldsRefused([{"field": "body", "message": "give exactly one of ids and filter"}])
    return DeleteByIds.read(given) if "ids" in given else DeleteByFilter.read(given)


class Deleted(Answer):
    """How many items were deleted."""

    deleted: Count = Field(description="Items that were there")


class Signature(Texts):
    """What a signed address carries in place of a key."""

    expires: (
        Annotated[int, Field(ge=0, le=10**11, description="UTC seconds at which the address stops to open")] | None
    ) = None
    signature: Annotated[str, Field(max_length=64, pattern="^[A-Za-z0-9_-]*$")] | None = Field(
        None, description="As search results carry it; a request with a key needs none"
    )
