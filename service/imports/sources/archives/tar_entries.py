"""A .tar's entries, packed or not: read from its beginning, and as far as it goes where it was cut off."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from service.imports.sources.archives.entries import Entry, check_count, path_of, swollen, whole_limit
from service.imports.sources.source import BROKEN, Bad, Unreadable
from service.text import readable


def open_tar(file: Path) -> tuple[Callable[[], None], list[Entry | Bad]]:
    """What closes it, and its entries. Raises SourceError and what BROKEN lists."""
    archive = tarfile.open(file, errors="surrogateescape")  # noqa: SIM115 (entries are read from it later)
    try:
        return archive.close, list(_entries(archive, file.name, whole_limit(file.stat().st_size)))
    except BaseException:
        archive.close()
        raise


def _entries(archive: tarfile.TarFile, name: str, limit: int) -> Iterator[Entry | Bad]:
    count = 0
    member: tarfile.TarInfo | None = None
    while True:
        try:
            following = archive.next()
            whole = following is not None or _ends(archive)
        except BROKEN:
            if member is None:
                raise
            following, whole = None, False
        # An entry is told when what follows it has been found, so when all of it is there.
        if member is not None and (whole or following is not None or _is_whole(archive, member)):
            yield from _entry(archive, member)
            member = None
        if following is None:
            if not whole:
                last = readable(member.name if member else name)
                yield Bad(last, "the archive is cut off here: what followed is missing", "cut-off")
            return
        count += 1
        check_count(count)
        if following.offset_data + following.size > limit:
            error = swollen(limit)
            yield Bad(readable(following.name), f"from here on: {error}", error.slug)
            return
        member = following


def _ends(archive: tarfile.TarFile) -> bool:
    """Whether the block where reading stopped is the empty one that ends a .tar."""
    opened = archive.fileobj
    assert opened is not None
    opened.seek(archive.offset)
    return opened.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _is_whole(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    opened = archive.fileobj
    assert opened is not None
    if not member.isfile() or not member.size:
        return True
    try:
        opened.seek(member.offset_data + member.size - 1)
        return len(opened.read(1)) == 1
    except BROKEN:
        return False


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[Entry | Bad]:
    if member.isdir():
        return
    try:
        path = path_of(member.name)
        if not member.isfile():
            raise Unreadable("is a link or a device, no file", "unsafe-entry")
    except Unreadable as error:
        yield Bad(readable(member.name), str(error), error.slug)
        return
    yield Entry(path, member.size, partial(_member, archive, member))


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(member)
    if opened is None:
        raise tarfile.ReadError("is no file")
    return opened
