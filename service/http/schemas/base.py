"""Request and Answer: a request has no field but the ones named, an answer is built whole or not at all.

The document shows what they show: optional fields of a request without a default, which clients would send along, and
without null where null is not taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import orjson
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema

from service.http.schemas.wording import errors_of

Schema = dict[str, Any]


class FieldsRefused(Exception):
    """A request's fields do not fit. errors: `field` and `message` of each, without what was sent."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{first['field']}: {first['message']}{more}")
        self.errors = errors


class _Shown(BaseModel):
    """A type of the document."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        schema = handler(core_schema)
        shown = handler.resolve_ref_schema(schema)
        required = shown.get("required", ())
        for name, field in shown.get("properties", {}).items():
            field.pop("title", None)
            field.pop("default", None)
            if name not in required:
                cls.optional(name, field)
        return schema

    @classmethod
    def optional(cls, name: str, field: Schema) -> None:
        """Changes how a field that may be left out is shown."""


class Request(_Shown):
    """What a client sends. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def read(cls, value: Any) -> Self:
        """From decoded JSON; numbers and texts stay apart. Raises FieldsRefused."""
        cls.known(value)
        return cls._validated(value, strict=True)

    @classmethod
    def known(cls, value: Any) -> None:
        """Raises FieldsRefused at the first field that is unknown: validation would write an error for each."""
        if isinstance(value, dict):
            refuse_unknown(value, cls.model_fields)

    @classmethod
    def _validated(cls, value: Any, *, strict: bool) -> Self:
        try:
            return cls.model_validate(value, strict=strict)
        except ValidationError as error:
            raise FieldsRefused(errors_of(error)) from None


class Blanks(Request):
    """JSON whose optional fields count as left out when they are null or an empty list."""

    @model_validator(mode="before")
    @classmethod
    def without_blanks(cls, value: Any) -> Any:
        """The fields that are given; unknown ones stay, to be refused."""
        if not isinstance(value, dict):
            return value
        return {key: each for key, each in value.items() if key not in cls.model_fields or not blank(each)}

    @classmethod
    def optional(cls, name: str, field: Schema) -> None:
        # Of an object the null is taken and not shown: generators make a union of it that nobody wants to fill in.
        if "type" in field:
            field["type"] = [field["type"], "null"]


class Texts(Request):
    """Fields of a form or a query string; those in `blanks` count as left out when they are empty or `null`."""

    blanks: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def given(cls, fields: Mapping[str, str]) -> dict[str, str]:
        """Without those that count as left out."""
        return {key: value for key, value in fields.items() if value not in ("", "null") or key not in cls.blanks}

    @classmethod
    def read(cls, value: Any) -> Self:
        """From texts. Raises FieldsRefused."""
        cls.known(value)
        return cls._validated(cls.given(value), strict=False)

    @classmethod
    def optional(cls, name: str, field: Schema) -> None:
        _without_null(field)
        if name in cls.blanks and field.get("type") == "string":
            # An empty text is shown as the example: Swagger UI fills a form with examples, or with the word "string".
            field["examples"] = [""]
            field.pop("minLength", None)
            if "const" in field:
                field |= {"pattern": f"^{field.pop('const')}$", "maxLength": 32}
            if "pattern" in field:
                field["pattern"] = f"^(?:null)?$|{field['pattern']}"


class Answer(_Shown):
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
        """JSON. pydantic's own serialiser looks at every value of the metadata, this one does not."""
        return orjson.dumps(self, default=_members)

    @classmethod
    def optional(cls, name: str, field: Schema) -> None:
        if name in cls.absent:
            _without_null(field)


def refuse_unknown(value: dict[str, Any], known: Mapping[str, Any]) -> None:
    """Raises FieldsRefused at the first field that is not known."""
    for name in value:
        if name not in known:
            message = f"unknown field; known are {', '.join(known)}"
            raise FieldsRefused([{"field": name[:100] or "body", "message": message}])


def blank(value: Any) -> bool:
    """Whether an optional field with this value counts as left out."""
    return value is None or (isinstance(value, list) and not value)


def _members(value: Any) -> dict[str, Any]:
    if isinstance(value, Answer):
        return value.members()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _without_null(field: Schema) -> None:
    kinds = [each for each in field.get("anyOf", ()) if each != {"type": "null"}]
    if len(kinds) == 1:
        del field["anyOf"]
        for key, value in kinds[0].items():
            field.setdefault(key, value)
    elif kinds:
        field["anyOf"] = kinds
