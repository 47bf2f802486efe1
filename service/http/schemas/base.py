"""Request and Answer: a request has no field but the ones named, an answer is built whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from pydantic import BaseModel, ConfigDict, model_validator


class Request(BaseModel):
    """What a client sends. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Blanks(Request):
    """JSON whose fields count as left out when they are null or an empty list."""

    @model_validator(mode="before")
    @classmethod
    def without_blanks(cls, value: Any) -> Any:
        """The fields that are given; unknown ones stay, to be refused."""
        if not isinstance(value, dict):
            return value
        return {key: each for key, each in value.items() if key not in cls.model_fields or not _blank(each)}


class Texts(Request):
    """Fields of a form or a query string; those in `blanks` count as left out when they are empty or `null`."""

    blanks: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def given(cls, fields: Mapping[str, str]) -> dict[str, str]:
        """Without those that count as left out."""
        return {key: value for key, value in fields.items() if value not in ("", "null") or key not in cls.blanks}


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, list) and not value)


class Answer(BaseModel):
    """What the service sends. Its values have the declared types already; nothing is converted."""

    model_config = ConfigDict(strict=True)

    # Fields that are not sent where they are None.
    absent: ClassVar[frozenset[str]] = frozenset()

    def members(self) -> dict[str, Any]:
        """The fields as they are sent; values may be answers again."""
        fields = self.__dict__
        if not self.absent:
            return fields
        return {key: value for key, value in fields.items() if value is not None or key not in self.absent}

    def encoded(self) -> bytes:
        """JSON. Nearly three times as fast as pydantic's own serialiser, which looks at every value of the metadata."""
        return orjson.dumps(self, default=Answer.members)
