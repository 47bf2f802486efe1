"""Ids by row, beside the vector file: a search for ids and scores needs no SQL.

A cache of the store, like all beside it.

One file of fixed records, in the order of rows: CRC-32 of the id begun with the key, then the id padded with zeros. A
record that does not match its key is never answered from.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index.embedded.ann.arrays import Keys, Rows
from index.embedded.ann.files.plain import map_array, open_plain, write_at
from index.errors import CacheUnusable

_RECORD = np.dtype([("check", "<u4"), ("id", "S128")])
_ROOM = 1024  # records the file grows by at least, so that it is mapped again rarely


class NameFile:
    """One thread appends; any number reads. Rows beyond those appended must not be asked for."""

    def __init__(self, directory: Path, *, rows: int = 0) -> None:
        """Opens or creates; `rows` records are kept, what lies behind them is forgotten.

        Raises CacheUnusable where there are fewer.
        """
        self._path = directory / "names"
        self._file = open_plain(self._path, os.O_RDWR | os.O_CREAT)
        self._count = rows
        self._capacity = 0
        if os.fstat(self._file).st_size < rows * _RECORD.itemsize:
            self.close()
            raise CacheUnusable(f"{self._path} has lost rows; rebuild it from the store")
        os.ftruncate(self._file, rows * _RECORD.itemsize)  # what lay behind them is of items that may be gone
        self._reserve(rows)

    def __len__(self) -> int:
        return self._count

    def put(self, first: int, keys: Keys, ids: Sequence[str]) -> None:
        """One id for each key, in the order of rows, from row `first` on: the end, or before it."""
        records = np.zeros(len(ids), _RECORD)
        records["id"] = ids
        records["check"] = [_check(key, id) for key, id in zip(keys.tolist(), records["id"].tolist(), strict=True)]
        self._reserve(first + len(ids))
        write_at(self._file, records.view(np.uint8), first * _RECORD.itemsize)
        self._count = first + len(ids)

    def read(self, rows: Rows, keys: Keys) -> list[str]:
        """Ids of rows that hold these keys. Raises CacheUnusable for a damaged record."""
        records = self._records[rows]
        ids = records["id"].tolist()
        for check, key, id in zip(records["check"].tolist(), keys.tolist(), ids, strict=True):
            if check != _check(key, id):
                raise CacheUnusable(f"{self._path} is damaged; rebuild it from the store")
        return [id.decode("ascii") for id in ids]

    def sync(self) -> None:
        """Returns when every record is on disk."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Gives the file back; records can still be read."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _reserve(self, rows: int) -> None:
        if rows > self._capacity or not self._capacity:
            self._capacity = max(rows * 3 // 2, rows + _ROOM)
            size = self._capacity * _RECORD.itemsize
            os.ftruncate(self._file, size)
            flat = map_array(self._file, 0, "u1", size, scattered=True)
            self._records: npt.NDArray[Any] = flat.view(_RECORD)


def _check(key: int, id: bytes) -> int:
    return zlib.crc32(id, key & 0xFFFF_FFFF)
