"""An item's row: sealed by a checksum over everything in it, and read so that a damaged one costs itself alone.

Texts are read as bytes: SQLite hands out whatever lies there, and a text that is no UTF-8 must not fail the statement.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from index.embedded.store.collections import KEY_MASK
from index.embedded.store.encoding import decode_metadata
from index.items import Item, Media

COLUMNS = (
    "vid, CAST(id AS BLOB), CAST(metadata AS BLOB), width, height, CAST(format AS BLOB), bytes, CAST(sha256 AS BLOB),"
    " size, created_at, updated_at, seq, thumbnail_crc, crc"
)
_NUMBERS = struct.Struct("<qqddq")  # a float's text would take half of a row's time
_NO_MEDIA = (None,) * 5
_SHA = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Row:
    """An item as it lies in the table. thumbnail_crc: of its thumbnail's bytes, None where it has none."""

    vid: int
    item: Item
    metadata: str
    size: int
    thumbnail_crc: int | None

    @property
    def key(self) -> int:
        return self.vid & KEY_MASK

    @property
    def sha256(self) -> str | None:
        """Of the upload, None without one."""
        return None if self.item.media is None else self.item.media.sha256


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that does not match its checksum: enough to remove it. size, sha256: where they can be made out."""

    vid: int
    size: int
    sha256: str | None

    @property
    def key(self) -> int:
        return self.vid & KEY_MASK


def seal(
    vid: int,
    id: str,
    metadata: str,
    media: tuple[Any, ...],
    size: int,
    created_at: float,
    updated_at: float,
    seq: int,
    thumbnail_crc: int | None,
) -> int:
    """The checksum of a row. media: width, height, format, bytes, sha256, each None without an upload."""
    texts = f"{id}\0{thumbnail_crc}\0{'' if media == _NO_MEDIA else repr(media)}\0{metadata}"
    return zlib.crc32(texts.encode(), zlib.crc32(_NUMBERS.pack(vid, size, created_at, updated_at, seq)))


def seal_stored(*values: Any) -> int:
    """`seal` of the values of `COLUMNS` without the last. Raises ValueError, TypeError or struct.error for damage."""
    vid, id, metadata, width, height, format, bytes_, sha256, size, created_at, updated_at, seq, thumbnail_crc = values
    media = (width, height, _text(format), bytes_, _text(sha256))
    return seal(vid, id.decode(), metadata.decode(), media, size, created_at, updated_at, seq, thumbnail_crc)


def read(values: tuple[Any, ...]) -> Row | Broken:
    """A row of `COLUMNS`."""
    vid, id, metadata, width, height, format, bytes_, sha256, size, created_at, updated_at, _, thumbnail_crc, crc = (
        values
    )
    try:
        if seal_stored(*values[:-1]) != crc:
            raise ValueError("the row does not match its checksum")
        decoded = decode_metadata(metadata)
        if not isinstance(decoded, dict):
            raise ValueError("metadata is no object")
        media = None if sha256 is None else Media(width, height, format.decode(), bytes_, sha256.decode())
        return Row(
            vid, Item(id.decode(), decoded, media, created_at, updated_at), metadata.decode(), size, thumbnail_crc
        )
    except (ValueError, TypeError, AttributeError, struct.error):
        name = sha256.decode("ascii", "replace") if isinstance(sha256, bytes) else ""
        return Broken(vid, size if isinstance(size, int) else 0, name if _SHA.fullmatch(name) else None)


def _text(stored: bytes | None) -> str | None:
    return None if stored is None else stored.decode()
