"""JSON as the service reads it, wherever it comes from: what another reader might take otherwise is refused.

That is: a key given twice, NaN and Infinity, a number that no float64 holds, an integer that no signed 64 bits hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

import jiter

from index.limits import MAX_INTEGER, MIN_INTEGER

# Only texts with such a number need a look at every value: an integer of 64 bits has 19 digits, a float overflows from
# e308 on. Digits are made alike first, so that plain searches do.
_ALIKE = bytes(48 if 48 <= each <= 57 else 101 if each in b"eE" else 43 if each == 43 else 32 for each in range(256))
_LONG = (b"0" * 19, b"e000", b"e+000")
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
    alike = data.translate(_ALIKE)
    if any(mark in alike for mark in _LONG):
        _in_range([value])
    return value


def _in_range(values: Collection[Any]) -> None:
    kinds = set(map(type, values))
    if int in kinds and not all(MIN_INTEGER <= each <= MAX_INTEGER for each in values if type(each) is int):
        raise JsonRefused("an integer does not fit into 64 bits; send it as a text")
    # A long list of floats is a vector: looked at without a step of Python for each.
    floats = values if kinds == {float} else [each for each in values if type(each) is float]
    if not all(map(math.isfinite, floats)):
        raise JsonRefused("a number is too large")
    for each in values if kinds & {dict, list} else ():
        if type(each) is dict:
            _in_range(each.values())
        elif type(each) is list:
            _in_range(each)
