"""Page: a slice of a list, and how the next one is asked for."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from service.http.schemas.base import Answer, Texts
from service.http.schemas.fields import MAX_PAGE, UNGROUPED, text


class PageFields(Texts):
    """How many entries of a list, from where on."""

    # Not `cursor`: it is null on the last page, and asking for that again would start over.
    blanks: ClassVar[frozenset[str]] = frozenset({"limit"})

    limit: Annotated[int, UNGROUPED] = Field(
        100, ge=1, le=MAX_PAGE, description="At most so many entries; left out: 100"
    )
    cursor: str | None = Field(None, min_length=1, max_length=1024, description="`next_cursor` of the page before")


class Page(Answer):
    """What every list has beside its `items`."""

    next_cursor: Annotated[str, text(1024)] | None = Field(description="For the next page; null at the end")
