"""The bytes of a vector file: its header, and the checksum of a row.

A directory of three files, all numbers little-endian:

- `rows`: one page of header, then float16 (n, dim), row after row
- `keys`: int64 (n,), strictly increasing and above zero: a zero ends the file
- `checks`: uint32 (n,), CRC-32 of the key's 8 bytes followed by the row's bytes

The header: magic, version, dim, number of rows known to be on disk, fingerprint, and a CRC-32 of all that.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from index.embedded.ann.arrays import Half
from index.errors import CacheUnusable

PAGE = 4096
MAX_FINGERPRINT = 128
_MAGIC = b"LKVECTOR"
_VERSION = 1
_HEADER = struct.Struct(f"<8sIIQH{MAX_FINGERPRINT}s")
_CHECK = struct.Struct("<I")


def pack_header(dim: int, fingerprint: str, synced: int) -> bytes:
    """One page. synced: rows known to be on disk."""
    name = fingerprint.encode()
    body = _HEADER.pack(_MAGIC, _VERSION, dim, synced, len(name), name)
    return (body + _CHECK.pack(zlib.crc32(body))).ljust(PAGE, b"\0")


def unpack_header(page: bytes, where: Path) -> tuple[int, str, int]:
    """dim, fingerprint and rows known to be on disk. Raises CacheUnusable, naming `where`."""
    body, check = page[: _HEADER.size], page[_HEADER.size : _HEADER.size + _CHECK.size]
    if len(page) < PAGE or check != _CHECK.pack(zlib.crc32(body)):
        raise CacheUnusable(f"{where} has a damaged header; rebuild it from the store")
    magic, version, dim, synced, length, name = _HEADER.unpack(body)
    if (magic, version) != (_MAGIC, _VERSION):
        raise CacheUnusable(f"{where} is of another kind or version; rebuild it from the store")
    return dim, name[:length].decode(), synced


def checksum(key: np.int64, row: Half) -> int:
    """CRC-32 that binds a row to its key. row: C-contiguous."""
    return zlib.crc32(row.data, zlib.crc32(key.tobytes()))
