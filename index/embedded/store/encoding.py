"""What goes to disk and how it comes back: unit vectors as float16 with a CRC, metadata as JSON, cursors as opaque
text.

float16 moves a cosine by about 1e-5 in 2048 dimensions; below 64 dimensions its rounding could exceed the promised
2e-4, so those few bytes stay float32.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numkong
import numpy as np
import numpy.typing as npt
import orjson

from index.errors import InvalidCursor, InvalidId, InvalidMetadata, InvalidVector, Refused
from index.limits import ID, ID_RULE, MAX_INTEGER, MAX_METADATA, MIN_INTEGER, NAME, NAME_RULE

Stored = npt.NDArray[Any]  # float16 or float32, little-endian, (n, dim)
_MIN_HALF_DIM = 64
_UNIT = 1e-6  # a squared length this near to one is one


def check_id(id: str) -> str:
    """The id itself. Raises InvalidId."""
    if not isinstance(id, str) or not ID.fullmatch(id):
        raise InvalidId(f"an item id is {ID_RULE}")
    return id


def check_name(name: str) -> str:
    """The collection's name itself. Raises InvalidId."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidId(f"a collection's name is {NAME_RULE}")
    return name


def stored_type(dim: int) -> np.dtype[Any]:
    """float16 where its rounding is harmless, else float32; little-endian."""
    return np.dtype("<f2") if dim >= _MIN_HALF_DIM else np.dtype("<f4")


def unit(vectors: npt.ArrayLike, dim: int) -> npt.NDArray[np.float32]:
    """(n, dim) or (dim,) finite, non-zero numbers → float32 (n, dim) rows of unit length. Raises InvalidVector."""
    try:
        rows = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidVector(f"a vector must be {dim} numbers") from error
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InvalidVector(f"a vector must have {dim} numbers, this one has {rows.shape[-1] if rows.ndim else 0}")
    squares = np.einsum("ij,ij->i", rows, rows)
    # Squares that over- or underflow float32 are looked at in float64; real embeddings never get here.
    if not ((squares > 1e-30) & (squares < 1e30)).all():
        wide = rows.astype(np.float64)
        if not np.isfinite(wide).all():
            raise InvalidVector("a vector must hold finite numbers only")
        squares = np.einsum("ij,ij->i", wide, wide)
        if not (squares > 0).all():
            raise InvalidVector("a vector must not be zero: it has no direction")
        scaled: npt.NDArray[np.float32] = (wide / np.sqrt(squares)[:, None]).astype(np.float32)
        return scaled
    scale = 1.0 / np.sqrt(squares)
    result: npt.NDArray[np.float32] = rows * scale[:, None].astype(np.float32)
    return result


def unit_query(vector: npt.ArrayLike, dim: int) -> npt.NDArray[np.float32]:
    """`unit` of one vector (dim,), by the short way that every search takes. Raises InvalidVector."""
    if (
        isinstance(vector, np.ndarray)
        and (vector.dtype == np.float32 and vector.shape == (dim,))
        and (vector.flags.c_contiguous and vector.flags.aligned)  # the kernel takes it for granted
    ):
        # Not numpy's product, which lets go of Python's lock: two searching threads would wait for each other.
        square = float(numkong.dot(vector, vector))  # type: ignore[arg-type]
        if abs(square - 1) < _UNIT:
            return vector
        if 1e-30 < square < 1e30:
            scaled: npt.NDArray[np.float32] = np.multiply(vector, np.float32(square**-0.5))
            return scaled
    if np.ndim(vector) != 1:
        raise InvalidVector(f"a vector must be {dim} numbers")
    row: npt.NDArray[np.float32] = unit(vector, dim)[0]
    return row


def checksum(stored: Any) -> int:
    """CRC-32 of stored bytes, or of a stored text's UTF-8."""
    return zlib.crc32(stored.encode() if isinstance(stored, str) else stored)


def encode_metadata(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A copy in plain JSON types, and its compact text.

    Raises InvalidMetadata for what JSON cannot carry unchanged, for an integer beyond 64 bits, above MAX_METADATA.
    """
    return encode_json(metadata, MAX_METADATA)


def encode_json(value: Mapping[str, Any], most: int) -> tuple[dict[str, Any], str]:
    """A copy of an object in plain JSON types, and its compact text of at most `most` bytes. Raises InvalidMetadata."""
    if not isinstance(value, Mapping):
        raise InvalidMetadata("metadata must be a JSON object")
    try:
        plain = {name: _plain(one) for name, one in value.items()}
        text = orjson.dumps(plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetadata(
            f"metadata must be a JSON object of texts, numbers, lists and objects: {error}"
        ) from error
    if len(text) > most:
        raise InvalidMetadata(f"metadata takes {len(text):,} bytes as JSON; at most {most:,} are allowed")
    return plain, text.decode()


def decode_metadata(text: str | bytes) -> dict[str, Any]:
    """The object `encode_metadata` wrote. Raises ValueError for what is no JSON."""
    if text in ("{}", b"{}"):
        return {}
    value: dict[str, Any] = orjson.loads(text)
    return value


def merge_patch(target: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396: null removes a key, an object merges, everything else replaces."""
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = merge_patch(merged.get(key), value)
        else:
            merged[key] = value
    return merged


def encode_cursor(last: str) -> str:
    """Where a page ended, as URL-safe text."""
    return base64.urlsafe_b64encode(b"1:" + last.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, check: Callable[[str], str]) -> str:
    """The id or name a page ended with; check: raises Refused for what can be none. Raises InvalidCursor."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        version, _, last = raw.partition(":")
        if version != "1":
            raise InvalidCursor("version")
        return check(last)
    except (binascii.Error, UnicodeError, ValueError, TypeError, Refused) as error:
        raise InvalidCursor("not a cursor of this service; start again without one") from error


def _plain(value: Any) -> Any:
    # Exact types first: this runs over every value of every item that is written.
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if isinstance(value, int):
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise ValueError("an integer does not fit into 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("NaN and Infinity are not JSON")
        return float(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{kind.__name__} is none of them")
