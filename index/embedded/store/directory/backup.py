"""A snapshot is one file that restores anywhere: the database as of one moment, the originals it refers to, a checksum
each.

The file is a plain tar: `lookalike.json` (what is in it), `catalogue.db`, `originals/<sha256>`. Search indexes are not
in it: they are made again. A restore checks everything before it touches the directory; see `restoring`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import tarfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

import apsw
import orjson

from index.embedded.store import database
from index.embedded.store.directory import references, restoring
from index.embedded.store.directory.lock import DirectoryLock
from index.embedded.store.directory.originals import NAME as ORIGINALS
from index.embedded.store.directory.originals import Originals, stored, sync_directory
from index.embedded.store.migrations import APPLICATION_ID, VERSION, migrate
from index.errors import SnapshotExists, StoreCorrupt
from index.types import Progress, Snapshot

FORMAT = 1
_MANIFEST = "lookalike.json"
_NOTE = "snapshot-"  # a file in the data directory that names what a killed snapshot leaves elsewhere
_PIECE = 2**20
_PAGES = 256  # 8 MB of the database per step


def create(
    path: Path, originals: Originals, file: Path, *, force: bool = False, progress: Progress | None = None
) -> Snapshot:
    """Writes a snapshot of the database at `path` while it is in use. temp → fsync → rename.

    Raises SnapshotExists, StorageError, StoreCorrupt (an original that is damaged), FileNotFoundError without a folder.
    """
    file = file.absolute()
    if file.exists() and not force:
        raise SnapshotExists(f"{file} exists; choose another name, or pass --force to replace it")
    if not file.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(file.parent))
    unique = uuid.uuid4().hex
    note = path.with_name(_NOTE + unique)
    copy, partial = path.with_name(f"{_NOTE}{unique}.db"), file.with_name(f".{file.name}.{unique}.part")
    try:
        with originals.kept(), database.translated(file):
            note.write_bytes(os.fsencode(partial))
            _copy_database(path, copy)
            names, count = _contents(copy)
            there = [sha256 for sha256 in names if originals.path(sha256).exists()]
            size = copy.stat().st_size
            manifest = Snapshot(
                format=FORMAT,
                schema=VERSION,
                created_at=time.time(),
                items=count,
                database_bytes=size,
                database_sha256=_sha256(copy),
                originals=len(there),
                missing=len(names) - len(there),
            )
            with open(partial, "xb", opener=_private) as out:
                _write(out, manifest, copy, there, originals, progress)
                out.flush()
                os.fsync(out.fileno())
            partial.rename(file)
            sync_directory(file.parent)
    finally:
        for left in (copy, partial, note):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
    return manifest


def sweep(directory: Path) -> None:
    """Removes what snapshots that were killed have left; with the directory's lock held."""
    for note in directory.glob(_NOTE + "*"):
        if len(note.name) == len(_NOTE) + 32 and note.is_file():
            partial = Path(os.fsdecode(note.read_bytes()))
            if partial.name.endswith(f".{note.name.removeprefix(_NOTE)}.part"):
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
    for copy in directory.glob(_NOTE + "*.db*"):
        if len(copy.name.partition(".")[0]) == len(_NOTE) + 32 and copy.is_file():
            copy.unlink(missing_ok=True)


def restore(file: Path, directory: Path, *, force: bool = False, progress: Progress | None = None) -> Snapshot:
    """Puts a snapshot's catalogue into a directory that nobody uses. Without `force` there must be none yet.

    Everything is unpacked beside and checked first. Raises StoreCorrupt, SnapshotExists, DirectoryLocked, StorageError.
    """
    target = directory / database.NAME
    with database.translated(target):
        directory.mkdir(parents=True, exist_ok=True)
        lock = DirectoryLock(directory)
    try:
        restoring.recover(directory)
        if target.exists() and target.stat().st_size and not force:
            raise SnapshotExists(f"{directory} holds a catalogue; pass --force to replace it by the snapshot")
        with database.translated(target), restoring.unpacking(directory) as unpacked:
            with _readable(file):
                manifest = _unpack(file, unpacked, progress)
                _check_database(unpacked / database.NAME, file)
                _account(unpacked / database.NAME, target, directory / ORIGINALS)
            restoring.place(unpacked, directory)
        return manifest
    finally:
        lock.release()


def made_at(file: Path) -> float | None:
    """UTC seconds at which a snapshot was made; None where the file is none, or cannot be read."""
    try:
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|") as archive:
            first = archive.next()
            content = archive.extractfile(first) if first is not None and first.name == _MANIFEST else None
            return None if content is None else float(orjson.loads(content.read(_PIECE))["created_at"])
    except (OSError, tarfile.TarError, EOFError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _account(copy: Path, old: Path, kept: Path) -> None:
    """Tells the unpacked database of the originals that lie in the directory already and that it does not know."""
    connection = database.connect(copy, write=True)
    try:
        migrate(connection, copy, ())
        unknown = {sha256 for names in stored(kept) for sha256 in names} - references.accounted(connection)
        known = _accounted(old)
        with connection:
            connection.executemany("INSERT OR IGNORE INTO released VALUES (?)", [(name,) for name in unknown & known])
            references.accept(connection, unknown - known)
        connection.pragma("journal_mode", "delete")
    finally:
        connection.close(True)
    with copy.open("rb+") as written:
        os.fsync(written.fileno())


def _accounted(old: Path) -> set[str]:
    """What the catalogue that is replaced knew; nothing where it cannot be read."""
    if not old.exists():
        return set()
    try:
        connection = database.open_file(old, apsw.SQLITE_OPEN_READWRITE)
        try:
            return references.accounted(connection)
        finally:
            connection.close()
    except apsw.Error:
        return set()


def _copy_database(path: Path, copy: Path) -> None:
    # Inside a read transaction: one moment of the database, however long it takes and whatever is written meanwhile.
    os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    source = database.open_file(path, apsw.SQLITE_OPEN_READONLY)
    target = database.open_file(copy, apsw.SQLITE_OPEN_READWRITE)
    try:
        source.execute("BEGIN; SELECT count(*) FROM collections").fetchall()
        with target.backup("main", source, "main") as copying:
            while not copying.done:
                copying.step(_PAGES)
        target.pragma("journal_mode", "delete")
    finally:
        target.close()
        source.close()


def _contents(copy: Path) -> tuple[list[str], int]:
    connection = database.open_file(copy, apsw.SQLITE_OPEN_READONLY)
    try:
        return sorted(references.originals(connection)), int(str(connection.execute("SELECT count(*) FROM items").get))
    finally:
        connection.close()


def _write(
    out: IO[bytes], manifest: Snapshot, copy: Path, names: list[str], originals: Originals, progress: Progress | None
) -> None:
    total = manifest.database_bytes + sum(originals.path(name).stat().st_size for name in names)
    done = 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, _MANIFEST, orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))
        archive.add(copy, database.NAME, filter=_plain)
        for sha256 in names:
            if progress is not None:
                progress(manifest.database_bytes + done, total)
            data = originals.read(sha256)
            _add(archive, f"{ORIGINALS}/{sha256}", data)
            done += len(data)
    if progress is not None:
        progress(total, total)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    archive.addfile(info, io.BytesIO(data))


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o600
    return info


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, orjson.JSONDecodeError, TypeError, apsw.NotADBError) as error:
        raise StoreCorrupt(f"{file} is not a whole snapshot of Lookalike ({error}); nothing was restored") from error


def _unpack(file: Path, into: Path, progress: Progress | None) -> Snapshot:
    total, found = max(1, file.stat().st_size), 0
    manifest: Snapshot | None = None
    with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            folder, _, name = member.name.rpartition("/")
            if content is None or (folder, name) != (folder and ORIGINALS, Path(name).name):
                raise StoreCorrupt(f"{file} holds {member.name[:80]!r}, which no snapshot has; nothing was restored")
            if manifest is None:
                if member.name != _MANIFEST or member.size > _PIECE:
                    raise StoreCorrupt(f"{file} is not a snapshot of Lookalike; nothing was restored")
                manifest = Snapshot(**orjson.loads(content.read()))
                if manifest.format > FORMAT or manifest.schema > VERSION:
                    raise StoreCorrupt(f"{file} was made by a newer Lookalike; upgrade, then restore it")
                continue
            expected = name if folder else manifest.database_sha256
            target = into / ORIGINALS / name if folder else into / database.NAME
            if _extract(content, target) != expected:
                raise StoreCorrupt(
                    f"{file} is damaged: {member.name} does not match its checksum; nothing was restored"
                )
            found += bool(folder)
            if progress is not None:
                progress(min(raw.tell(), total), total)
    if manifest is None or found != manifest.originals or not (into / database.NAME).exists():
        raise StoreCorrupt(f"{file} is not whole: it ends before its last part; nothing was restored")
    return manifest


def _extract(content: IO[bytes], target: Path) -> str:
    target.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    with open(target, "xb", opener=_private) as out:
        while piece := content.read(_PIECE):
            digest.update(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _check_database(copy: Path, file: Path) -> None:
    connection = database.open_file(copy, apsw.SQLITE_OPEN_READONLY)
    try:
        sound = connection.pragma("quick_check") == "ok" and connection.pragma("application_id") == APPLICATION_ID
    finally:
        connection.close()
    if not sound:
        raise StoreCorrupt(f"the database in {file} is damaged; nothing was restored")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
