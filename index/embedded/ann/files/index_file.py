"""An index file is whole or it is not there: written beside, forced to disk, renamed; and checked to the last byte
before a byte of it is interpreted.

One page of header (magic, CRC-32 of the rest, JSON), then the alive bits, then what FAISS wrote.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index.embedded.ann.arrays import Bits
from index.embedded.ann.files.plain import open_plain
from index.errors import CacheUnusable

_faiss: Any = faiss  # its stubs lack the callbacks
_MAGIC = b"LKINDEX1"
_PAGE = 4096
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """kind, fingerprint, dim: whose index; sequence: changes it knows; rows: covered rows of the vector file; last_key:
    key of the last of them; trained: rows there were at training; length, checksum: of all that follows the header.
    """

    kind: str
    fingerprint: str
    dim: int
    sequence: int
    rows: int
    last_key: int
    trained: int
    length: int = 0
    checksum: int = 0


def write(path: Path, header: Header, alive: Bits, index: Any) -> None:
    """Replaces `path` in one step. `OSError` passes through and leaves the old file in place."""
    temporary = path.with_name(path.name + ".new")
    length = checksum = 0
    try:
        with temporary.open("wb") as file:
            file.write(bytes(_PAGE))

            def put(data: bytes) -> int:
                nonlocal length, checksum
                file.write(data)
                length, checksum = length + len(data), zlib.crc32(data, checksum)
                return len(data)

            put(alive.tobytes())
            faiss.write_index(index, _faiss.PyCallbackIOWriter(put, _CHUNK))
            file.seek(0)
            file.write(_pack(Header(**(asdict(header) | {"length": length, "checksum": checksum}))))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> tuple[Header, Bits, Any]:
    """Header, alive bits uint8 (⌈rows / 8⌉,) and the FAISS index.

    Raises CacheUnusable where it is missing, damaged or of another version.
    """
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
            header = _unpack(file.read(_PAGE), path)
            length = checksum = 0
            while chunk := file.read(_CHUNK):
                length, checksum = length + len(chunk), zlib.crc32(chunk, checksum)
            if (length, checksum) != (header.length, header.checksum):
                raise CacheUnusable(f"{path} is damaged; rebuild it from the store")
            file.seek(_PAGE)
            alive = np.frombuffer(file.read((header.rows + 7) // 8), dtype=np.uint8).copy()
            index = faiss.read_index(_faiss.PyCallbackIOReader(file.read, _CHUNK))
    except OSError as error:
        raise CacheUnusable(f"{path} cannot be read ({error.strerror}); rebuild it from the store") from error
    except RuntimeError as error:  # what FAISS raises for a format it does not know
        raise CacheUnusable(f"{path} was written by another version; rebuild it from the store") from error
    return header, alive, index


def _pack(header: Header) -> bytes:
    body = json.dumps(asdict(header)).encode().ljust(_PAGE - 12, b" ")
    return _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def _unpack(page: bytes, path: Path) -> Header:
    body = page[12:]
    if len(page) < _PAGE or page[:8] != _MAGIC or page[8:12] != zlib.crc32(body).to_bytes(4, "little"):
        raise CacheUnusable(f"{path} has a damaged or foreign header; rebuild it from the store")
    try:
        values = json.loads(body)
        header = Header(**values)
    except (ValueError, TypeError) as error:
        raise CacheUnusable(f"{path} was written by another version; rebuild it from the store") from error
    for field in fields(Header):
        value = getattr(header, field.name)
        # Their types are written as text here: `from __future__ import annotations`.
        if type(value).__name__ != field.type or (isinstance(value, int) and value < 0):
            raise CacheUnusable(f"{path} has {value!r} for {field.name} in its header; rebuild it from the store")
    return header
