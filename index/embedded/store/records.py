"""Records: small JSON documents by kind and name, each value with a version that never comes twice.

They lie beside the items, so a write of one is as durable as a write of the other and a snapshot holds both.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import apsw
import orjson

from index.embedded.store import erasing
from index.embedded.store.database import Readers
from index.embedded.store.encoding import checksum, decode_cursor, encode_cursor, encode_json
from index.embedded.store.writer import Writer
from index.errors import InvalidMetadata, InvalidRecord, RecordConflict, RecordNotFound, StoreCorrupt
from index.items import Metadata
from index.limits import MAX_RECORD
from index.records import Record, RecordPage

CATALOGUE = 0  # the scope of records that belong to no collection; collections are counted from 1
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,200}")
_COLUMNS = "kind, name, CAST(value AS BLOB), version, updated_at, crc"


class StoredRecords:
    """`Records` of one scope.

    scope: gives the scope's number inside a transaction, or raises CollectionNotFound; changed: called in the writer
    thread after a commit, before the caller gets its answer.
    """

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        scope: Callable[[apsw.Connection], int],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._scope = scope
        self._changed = changed

    def get(self, kind: str, name: str) -> Record:
        """As `Records.get`. Raises StoreCorrupt where the stored value does not match its checksum."""
        _checked(kind, name)
        with self._readers.connection() as connection:
            return _get(connection, self._scope(connection), kind, name)

    def put(self, kind: str, name: str, value: Metadata, *, expected: int | None = None) -> Record:
        """As `Records.put`."""
        _checked(kind, name)
        try:
            plain, text = encode_json(value, MAX_RECORD)
        except InvalidMetadata as error:
            raise InvalidRecord(f"record {kind}/{name}: {error}") from error
        now = time.time()

        def run(connection: apsw.Connection) -> Record:
            scope = self._scope(connection)
            _expect(connection, scope, kind, name, expected)
            sql = "INSERT OR REPLACE INTO records (scope, kind, name, value, crc, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
            connection.execute(sql, (scope, kind, name, text, checksum(text), now))
            return Record(kind, name, plain, connection.last_insert_rowid(), now)

        return self._writer.call(run, lambda _: self._changed())

    def delete(self, kind: str, name: str, *, expected: int | None = None) -> None:
        """As `Records.delete`."""
        _checked(kind, name)

        def run(connection: apsw.Connection) -> None:
            scope = self._scope(connection)
            _expect(connection, scope, kind, name, expected)
            sql = "DELETE FROM records WHERE scope = ? AND kind = ? AND name = ?"
            connection.execute(sql, (scope, kind, name))
            if not connection.changes():
                raise _missing(kind, name)
            erasing.note(connection)

        self._writer.call(run, lambda _: self._changed())

    def list(self, kind: str, *, prefix: str = "", limit: int = 100, cursor: str | None = None) -> RecordPage:
        """As `Records.list`. Raises StoreCorrupt where a stored value does not match its checksum."""
        after = "" if cursor is None else decode_cursor(cursor, _checked)
        sql = (
            f"SELECT {_COLUMNS} FROM records WHERE scope = ? AND kind = ? AND name > ? AND name >= ?"
            " AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?"
        )
        with self._readers.connection() as connection:
            values = (self._scope(connection), kind, after, prefix, len(prefix), prefix, limit + 1)
            found = [_record(row) for row in connection.execute(sql, values).fetchall()]
        more = len(found) > limit
        return RecordPage(found[:limit], encode_cursor(found[limit - 1].name) if more else None)


def checked(connection: apsw.Connection) -> list[tuple[str, str, bool]]:
    """(kind, name, whether it matches its checksum) of every record."""
    sql = "SELECT CAST(kind AS BLOB), CAST(name AS BLOB), CAST(value AS BLOB), crc FROM records"
    return [
        (kind.decode(errors="replace"), name.decode(errors="replace"), checksum(value) == crc)
        for kind, name, value, crc in connection.execute(sql)
    ]


def _checked(*texts: str) -> str:
    for text in texts:
        if not isinstance(text, str) or not _NAME.fullmatch(text):
            raise InvalidRecord("a record's kind and name are 1 to 200 printable characters each")
    return texts[0]


def _get(connection: apsw.Connection, scope: int, kind: str, name: str) -> Record:
    sql = f"SELECT {_COLUMNS} FROM records WHERE scope = ? AND kind = ? AND name = ?"
    found: list[Any] = connection.execute(sql, (scope, kind, name)).fetchall()
    if not found:
        raise _missing(kind, name)
    return _record(found[0])


def _expect(connection: apsw.Connection, scope: int, kind: str, name: str, expected: int | None) -> None:
    if expected is None:
        return
    sql = "SELECT version FROM records WHERE scope = ? AND kind = ? AND name = ?"
    there = connection.execute(sql, (scope, kind, name)).get or 0
    if there != expected:
        raise RecordConflict(f"record {kind}/{name} has version {there}, not {expected}: read it and try again")


def _record(row: tuple[Any, ...]) -> Record:
    kind, name, value, version, updated_at, crc = row
    if checksum(value) != crc:
        raise StoreCorrupt(f"record {kind}/{name} does not match its checksum; write it again or restore a snapshot")
    return Record(kind, name, orjson.loads(value), version, updated_at)


def _missing(kind: str, name: str) -> RecordNotFound:
    return RecordNotFound(f"no record {name!r} of kind {kind!r}")
