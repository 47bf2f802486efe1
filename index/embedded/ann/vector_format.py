"""How a vector file lies on disk, and the only place that reads or writes its bytes.

A directory of three files, all numbers little-endian:

- `rows`: one page of header, then float16 (n, dim), row after row
- `keys`: int64 (n,), strictly increasing and above zero: a zero ends the file
- `checks`: uint32 (n,), CRC-32 of the key's 8 bytes followed by the row's bytes

The header: magic, version, dim, number of rows known to be on disk, fingerprint, and a CRC-32 of all that.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index.errors import CacheUnusable

Half = npt.NDArray[np.float16]

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


def map_array(file: int, offset: int, dtype: str, count: int, *, scattered: bool = False) -> npt.NDArray[Any]:
    """Read-only 1-D array over an open file; the mapping lives as long as the array does.

    scattered: elements are read here and there, so reading ahead around each would only push others out of memory.
    """
    if not count:
        return np.empty(0, dtype=dtype)
    mapping = mmap.mmap(file, offset + count * np.dtype(dtype).itemsize, prot=mmap.PROT_READ)
    if scattered and hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(mapping, dtype=dtype, offset=offset, count=count)


def write_at(file: int, data: npt.NDArray[Any] | bytes, offset: int) -> None:
    """Through the file, not the mapping: a full disk is then an OSError instead of a SIGBUS."""
    left = memoryview(data.data if isinstance(data, np.ndarray) else data).cast("B")
    while left:
        done = os.pwrite(file, left, offset)
        left, offset = left[done:], offset + done
