"""JSON as the service reads it, wherever it comes from: what another reader might take otherwise is refused.

That is: a key given twice, NaN and Infinity, a number that no float64 holds, an integer that no signed 64 bits hold.
"""

from __future__ import annotations

import math
import re
from typing import Any

import jiter

# Only texts with such a number need a look at every value: an integer of 64 bits has 19 digits, a float overflows from
# e308 on. What has fewer digits in both is in range.
_LONG = re.compile(rb"[0-9]{19}|[eE]\+?[0-9]{3}")
_DUPLICATE = "Detected duplicate key"
_PLACE = re.compile(r" at line \d+ column \d+$")


class JsonRefused(ValueError):
    """The text is no JSON, or JSON that is not taken here. One line without the text itself."""


def loads(text: bytes | str) -> Any:
    """The value of UTF-8 JSON text. Raises JsonRefused."""
    data = text.encode() if isinstance(text, str) else text
    try:
        value = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        message = str(error)
        place = _PLACE.search(message)
        if message.startswith(_DUPLICATE):
            raise JsonRefused(f"an object has the same key twice{place[0] if place else ''}") from None
        raise JsonRefused(f"not valid JSON ({message})") from None
    if _LONG.search(data):
        _in_range(value)
    return value


def _in_range(value: Any) -> None:
    if isinstance(value, dict):
        for each in value.values():
            _in_range(each)
    elif isinstance(value, list):
        for each in value:
            _in_range(each)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise JsonRefused("an integer does not fit into 64 bits; send it as a text")
    elif isinstance(value, float) and not math.isfinite(value):
        raise JsonRefused("a number is too large")
