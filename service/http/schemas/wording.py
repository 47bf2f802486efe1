"""Words for what does not fit: one sentence per kind of error, which says what is allowed and never what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

MAX_FIELD_ERRORS = 20
MAX_NAME = 100  # characters; a field's name may be the caller's own text, of any length
MAX_WORDS = 400

WORDS: dict[str, str] = {
    "missing": "missing",
    "extra_forbidden": "unknown field",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_parsing_size": "must be an integer of 64 bits",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "has characters that are not allowed, or is too long or too short",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}


def errors_of(error: ValidationError) -> list[dict[str, str]]:
    """`field` and `message` of the first errors."""
    found = error.errors(include_url=False, include_input=False)
    return [{"field": _field(each["loc"]), "message": _message(each)} for each in found[:MAX_FIELD_ERRORS]]


def _field(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:MAX_NAME] for part in place)[:MAX_NAME] or "body"


def _message(error: Mapping[str, Any]) -> str:
    words = WORDS.get(error["type"], "not valid")
    return words.format(**error.get("ctx", {}))[:MAX_WORDS]
