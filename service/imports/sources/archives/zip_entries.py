"""A .zip's entries: by its list, or, where it was cut off and has none, by what stands before each file."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from service.imports.sources.archives.entries import Entry, check_count, check_entry, path_of, swollen, whole_limit
from service.imports.sources.source import Bad, SourceError, Unreadable
from service.text import readable

LONGEST_LIST = 2**27  # bytes: of a million entries with names of 80 bytes
UTF8, ENCRYPTED, SIZES_BEHIND = 0x800, 1, 8
_LOCAL = struct.Struct("<4s5H3I2H")  # before each file: signature, version, flags, method, time, date, crc, sizes, …
_CHUNK = 2**16


class _Bounded(io.FileIO):
    """A file of which no long list is read at once: zipfile takes the list's length from the archive."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > LONGEST_LIST:
            raise SourceError(f"the archive's list of files takes more than {LONGEST_LIST:,} bytes: split it")
        return super().read(size)


def open_zip(file: Path) -> tuple[Callable[[], None], list[Entry | Bad]]:
    """What closes it, and its entries. Raises SourceError and what BROKEN lists."""
    opened = _Bounded(file)
    try:
        archive = zipfile.ZipFile(opened)
    except zipfile.BadZipFile:
        opened.close()
        found = list(_salvaged(file))
        if not any(isinstance(each, Entry) for each in found):
            raise
        return (lambda: None), found
    except BaseException:
        opened.close()
        raise

    def close() -> None:
        archive.close()
        opened.close()

    try:
        check_count(len(archive.filelist))
        return close, list(_listed(archive, whole_limit(file.stat().st_size)))
    except BaseException:
        close()
        raise


def _listed(archive: zipfile.ZipFile, limit: int) -> Iterator[Entry | Bad]:
    # zipfile gives no more bytes of an entry than the list says, so that the list's sizes can be held to.
    whole = 0
    for info in archive.infolist():
        if info.is_dir():
            continue
        whole += info.file_size
        yield _entry(info, partial(archive.open, info), whole, limit)


def _entry(info: zipfile.ZipInfo, open: Callable[[], IO[bytes]], whole: int, limit: int) -> Entry | Bad:
    name = name_of(info)
    try:
        path = path_of(name)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise Unreadable("is a link or a device, no file", "unsafe-entry")
        if info.flag_bits & ENCRYPTED:
            raise Unreadable("is encrypted", "encrypted")
        check_entry(info.file_size, info.compress_size)
        if whole > limit:
            raise swollen(limit)
    except Unreadable as error:
        return Bad(readable(name), str(error), error.slug)
    return Entry(path, info.file_size, open)


def name_of(info: zipfile.ZipInfo) -> str:
    """The name: as the Unicode path field or the UTF-8 flag say it, else UTF-8 if it can be, else code page 437."""
    name = info.orig_filename.partition("\0")[0]
    said = bool(info.flag_bits & UTF8)
    try:
        raw = name.encode("utf-8" if said else "cp437")
    except UnicodeError:
        return name
    if (unicode := _unicode_path(info.extra, raw)) is not None:
        return unicode
    if said:
        return name
    try:
        return raw.decode("utf-8")
    except UnicodeError:
        return name


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """What field 0x7075 says, where it was written for this very name."""
    body = _field(extra, 0x7075)
    if len(body) < 6 or body[0] != 1 or body[1:5] != struct.pack("<I", zlib.crc32(raw)):
        return None
    try:
        return body[5:].decode("utf-8")
    except UnicodeError:
        return None


def _field(extra: bytes, kind: int) -> bytes:
    """The body of the first extra field of a kind; empty where there is none."""
    at = 0
    while at + 4 <= len(extra):
        found, length = struct.unpack_from("<HH", extra, at)
        if found == kind:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _salvaged(file: Path) -> Iterator[Entry | Bad]:
    """The files that are whole, one behind the other, and what tells that the rest is missing."""
    whole, count, last = 0, 0, ""
    limit = whole_limit(file.stat().st_size)
    with file.open("rb") as opened:
        end = opened.seek(0, os.SEEK_END)
        at = opened.seek(0)
        while (info := _header(opened, at)) is not None:
            count += 1
            check_count(count)
            last = name_of(info)
            data = opened.tell()
            behind = (
                _behind(opened, info, limit - whole) if info.flag_bits & SIZES_BEHIND else data + info.compress_size
            )
            if behind is None or behind > end:
                break
            whole += info.file_size
            at, last = behind, ""
            if not info.is_dir():
                yield _entry(info, partial(_open, file, data, info), whole, limit)
    reason = (
        "the archive is cut off: this file and those behind it" if last else "the archive is cut off: what followed"
    )
    yield Bad(readable(last or file.name), f"{reason} are missing", "cut-off")


def _open(file: Path, at: int, info: zipfile.ZipInfo) -> IO[bytes]:
    opened = file.open("rb")
    opened.seek(at)
    return zipfile.ZipExtFile(opened, "r", info, close_fileobj=True)  # type: ignore[return-value]


def _header(opened: IO[bytes], at: int) -> zipfile.ZipInfo | None:
    """What stands before the file at `at`, read up to its data; None where there is no whole one."""
    opened.seek(at)
    head = opened.read(_LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
        return None
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(head)
    raw, extra = opened.read(name_length), opened.read(extra_length)
    if not raw or len(raw) < name_length or len(extra) < extra_length:
        return None
    info = zipfile.ZipInfo(raw.decode("utf-8" if flags & UTF8 else "cp437", "replace"))
    info.flag_bits, info.compress_type, info.CRC, info.extra = flags, method, crc, extra
    info.compress_size, info.file_size = packed, size
    wide = _field(extra, 1)  # Zip64
    if size == packed == 0xFFFFFFFF and len(wide) >= 16:
        info.file_size, info.compress_size = struct.unpack_from("<QQ", wide)
    return info


def _behind(opened: IO[bytes], info: zipfile.ZipInfo, left: int) -> int | None:
    """Where the next file begins behind one whose sizes follow it, which are filled in; None where it is not whole."""
    if info.compress_type != zipfile.ZIP_DEFLATED or info.flag_bits & ENCRYPTED:
        return None
    start = opened.tell()
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    size = crc = taken = 0
    while not unpacker.eof:
        waiting = unpacker.unconsumed_tail or opened.read(_CHUNK)
        taken += 0 if unpacker.unconsumed_tail else len(waiting)
        try:
            part = unpacker.decompress(waiting, _CHUNK)
        except zlib.error:
            return None
        size, crc = size + len(part), zlib.crc32(part, crc)
        if not waiting or size > left:
            return None
    packed = taken - len(unpacker.unused_data)
    info.file_size, info.compress_size, info.CRC = size, packed, crc
    opened.seek(start + packed)
    told = opened.read(24)
    for mark in (b"PK\x07\x08", b""):
        for kind in ("<IQQ", "<III"):
            sums = mark + struct.pack(kind, crc, packed & (2**64 - 1 if kind == "<IQQ" else 2**32 - 1), size)
            if told.startswith(sums):
                return start + packed + len(sums)
    return None
