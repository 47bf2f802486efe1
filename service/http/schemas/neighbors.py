"""Neighbors: how many are asked for, and the lists of a page."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from service.analysis.limits import DEFAULT_NEIGHBORS, MAX_NEIGHBORS
from service.http.schemas.base import Answer, Texts
from service.http.schemas.fields import UNGROUPED, Cosine, ItemId
from service.http.schemas.pages import Page


class NeighborFields(Texts):
    """How long the lists are, and from where on they are shown."""

    blanks: ClassVar[frozenset[str]] = frozenset({"limit"})

    limit: Annotated[int, UNGROUPED] = Field(
        DEFAULT_NEIGHBORS,
        ge=1,
        le=MAX_NEIGHBORS,
        description=f"At most so many others of each item; left out: {DEFAULT_NEIGHBORS}",
    )
    cursor: str | None = Field(None, min_length=1, max_length=1024, description="`next_cursor` of the page before")


class Neighbor(Answer):
    """One of an item's nearest others."""

    id: ItemId
    score: Cosine = Field(description="Cosine similarity, −1…1")


class ItemNeighbors(Answer):
    """An item and its nearest others."""

    id: ItemId
    neighbors: Annotated[list[Neighbor], Field(max_length=MAX_NEIGHBORS)] = Field(description="Best first")


class NeighborPage(Page):
    """Lists in the order in which the items' vectors were written."""

    items: Annotated[list[ItemNeighbors], Field(max_length=10_000)] = Field(description="An item each")
