"""What does not fit together in a database: its pages, rows of one table without those of another, wrong counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import apsw

from index.embedded.store import collections
from index.embedded.store.collections import KEY_BITS

_LINES = 20  # what SQLite finds at most


def damage(connection: apsw.Connection) -> list[str]:
    """What SQLite's own check finds, a line each."""
    found: list[Any] = connection.execute(f"PRAGMA integrity_check({_LINES})").fetchall()
    return [" ".join(str(line).split()) for (line,) in found if line != "ok"]


def counted(connection: apsw.Connection, collection: int) -> tuple[int, int]:
    """Items that a collection counts and items that it has, in one moment. Raises CollectionNotFound."""
    connection.execute("BEGIN")
    try:
        sql = "SELECT count(*) FROM items INDEXED BY items_id WHERE collection = ?"
        there = int(str(connection.execute(sql, (collection,)).get))
        return collections.head_by_id(connection, collection).count, there
    finally:
        connection.execute("COMMIT")


def _number(connection: apsw.Connection, sql: str) -> int:
    return int(str(connection.execute(sql).get))


# What it is called → how many there are, each in one statement: what is written meanwhile is whole in it or absent.
MISFITS: Mapping[str, Callable[[apsw.Connection], int]] = {
    what: partial(_number, sql=f"SELECT count(*) FROM {sql}")
    for what, sql in (
        ("items without a vector", "items WHERE vid NOT IN (SELECT vid FROM vectors)"),
        ("vectors without an item", "vectors WHERE vid NOT IN (SELECT vid FROM items)"),
        ("thumbnails without an item", "thumbnails WHERE vid NOT IN (SELECT vid FROM items)"),
        ("items outside their collection", f"items WHERE vid >> {KEY_BITS} <> collection"),
    )
}
