"""Which originals the database knows: those an item refers to, and those it has let go.

An original is removed only where `released` names it: the proof that the database knew it and let it go. One that no
item refers to and that was never released is damage, except where it was met and accepted before (`strays`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from index.embedded.store.rows import COLUMNS, Broken, read


def referred(connection: apsw.Connection, sha256: str) -> bool:
    """Whether any item has this original."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM items WHERE sha256 = ?)", (sha256,)).get)


def originals(connection: apsw.Connection) -> list[str]:
    """The sha256 of every original that an item refers to."""
    sql = "SELECT DISTINCT CAST(sha256 AS BLOB) FROM items WHERE sha256 IS NOT NULL"
    return [sha256.decode(errors="replace") for (sha256,) in connection.execute(sql)]


def release(connection: apsw.Connection, hashes: Iterable[str]) -> bool:
    """Notes those that lost their last item in this transaction. Whether there are any."""
    sql = "INSERT OR IGNORE INTO released SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM items WHERE sha256 = ?1)"
    before = connection.total_changes()
    connection.executemany(sql, ((sha256,) for sha256 in hashes))
    return connection.total_changes() > before


def owed(connection: apsw.Connection) -> bool:
    """Whether any original waits to be removed."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM released)").get)


def released(connection: apsw.Connection) -> list[str]:
    """Originals to be removed: let go, and not referred to again since."""
    connection.execute("DELETE FROM released WHERE sha256 IN (SELECT sha256 FROM items WHERE sha256 IS NOT NULL)")
    return [str(sha256) for (sha256,) in connection.execute("SELECT sha256 FROM released")]


def forget(connection: apsw.Connection, hashes: Sequence[str]) -> None:
    """These files are gone."""
    connection.executemany("DELETE FROM released WHERE sha256 = ?", ((sha256,) for sha256 in hashes))


def accept(connection: apsw.Connection, hashes: Iterable[str]) -> None:
    """Files that no item refers to and that stay where they are: their presence is no damage from now on."""
    sql = "INSERT OR IGNORE INTO strays SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM items WHERE sha256 = ?1)"
    connection.executemany(sql, ((sha256,) for sha256 in hashes))


def astray(connection: apsw.Connection, kept: set[str]) -> int:
    """How many damaged rows refer to an original that is not there: one whose name was hit."""
    rows = (read(row) for row in connection.execute(f"SELECT {COLUMNS} FROM items WHERE sha256 IS NOT NULL"))
    return sum(isinstance(row, Broken) and row.sha256 not in kept for row in rows)


def accounts_for(connection: apsw.Connection, sha256: str) -> bool:
    """Whether an original may lie on disk without being damage."""
    tables = ("items", "released", "strays")
    return any(
        connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table} WHERE sha256 = ?)", (sha256,)).get for table in tables
    )


def accounted(connection: apsw.Connection) -> set[str]:
    """The sha256 of every original that may lie on disk without being damage."""
    known = set(originals(connection))
    for table in ("released", "strays"):
        known.update(str(sha256) for (sha256,) in connection.execute(f"SELECT sha256 FROM {table}"))
    return known
