"""A data directory of an earlier version opens: nothing is lost, and what it did not keep account of stays."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import apsw
import numpy as np
import pytest

from index.embedded.store.migrations import APPLICATION_ID, VERSION
from index.errors import RecordNotFound, StoreCorrupt
from index.open import open_catalogue
from tests.harness.catalogues import DIM, MODEL, entry, originals, put, vector

# As the releases with schema 2 wrote it.
SCHEMA_2 = """
CREATE TABLE collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, model TEXT NOT NULL, fingerprint TEXT NOT NULL,
    dim INTEGER NOT NULL, score_threshold REAL, created_at REAL NOT NULL, next_key INTEGER NOT NULL DEFAULT 1,
    count INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, seq INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0, token TEXT NOT NULL DEFAULT '', replay_from INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX collections_name ON collections (name) WHERE NOT dropped;
CREATE TABLE items (
    vid INTEGER PRIMARY KEY, collection INTEGER NOT NULL, id TEXT NOT NULL, metadata TEXT NOT NULL,
    width INTEGER, height INTEGER, format TEXT, bytes INTEGER, sha256 TEXT, size INTEGER NOT NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, seq INTEGER NOT NULL
);
CREATE UNIQUE INDEX items_id ON items (collection, id);
CREATE INDEX items_sha256 ON items (sha256) WHERE sha256 IS NOT NULL;
CREATE TABLE vectors (vid INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE thumbnails (vid INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE tombstones (
    collection INTEGER NOT NULL, seq INTEGER NOT NULL, key INTEGER NOT NULL, PRIMARY KEY (collection, seq, key)
) WITHOUT ROWID;
"""


def keep(directory: Path, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    folder = directory / "originals" / sha256[:2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / sha256).write_bytes(data)
    return sha256


def earlier(directory: Path, count: int) -> list[str]:
    """A directory of schema 2 with items i0, i1, …, every second with an upload; the sha256 of the uploads."""
    directory.mkdir()
    database = apsw.Connection(str(directory / "catalogue.db"))
    database.pragma("page_size", 32_768)
    database.pragma("journal_mode", "wal")
    database.execute(SCHEMA_2)
    database.execute(
        "INSERT INTO collections (name, model, fingerprint, dim, score_threshold, created_at, next_key, count, bytes,"
        " seq, token) VALUES ('default', 'test', 'test-1', ?, 0.25, 1.5, ?, ?, 100, 1, 'tok')",
        (DIM, count + 1, count),
    )
    database.execute(
        "INSERT INTO collections (name, model, fingerprint, dim, created_at) VALUES ('other', 'm', 'f', 8, 2.5)"
    )
    kept = []
    for n in range(count):
        data = b"upload %d" % n
        media = (4, 3, "png", len(data), keep(directory, data)) if n % 2 == 0 else (None,) * 5
        if n % 2 == 0:
            kept.append(str(media[4]))
            database.execute("INSERT INTO thumbnails VALUES (?, ?)", (1 << 40 | n + 1, b"thumb" + data))
        database.execute(
            "INSERT INTO items VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, 300, ?, ?, 1)",
            (1 << 40 | n + 1, f"i{n}", f'{{"n":{n},"ü":"ö"}}', *media, 1.0 + n, 2.0 + n),
        )
        row = vector(n).astype("<f2").tobytes()
        database.execute("INSERT INTO vectors VALUES (?, ?, ?)", (1 << 40 | n + 1, zlib.crc32(row), row))
    database.pragma("application_id", APPLICATION_ID)
    database.pragma("user_version", 2)
    database.close()
    return kept


def test_an_earlier_directory_opens_whole(tmp_path: Path) -> None:
    """Items, vectors, thumbnails, originals and the threshold are as they were, under checksums from now on."""
    kept = earlier(tmp_path / "data", 20)
    for _ in range(2):
        catalogue = open_catalogue(tmp_path / "data")
        collection = catalogue.get("default")
        assert (collection.score_threshold, catalogue.get("other").score_threshold) == (0.25, None)
        assert collection.count() == 20
        for n in range(20):
            item = collection.get(f"i{n}")
            assert item.metadata == {"n": n, "ü": "ö"} and (item.created_at, item.updated_at) == (1.0 + n, 2.0 + n)
            assert collection.search(vector(n), limit=1).matches[0].item == item
            if item.media is not None:
                assert catalogue.original(item.media.sha256) == b"upload %d" % n
                assert collection.thumbnail(f"i{n}") == b"thumbupload %d" % n
        np.testing.assert_allclose(collection.vectors(["i3"])[0], vector(3), atol=1e-3)
        assert len(collection.whole([f"i{n}" for n in range(20)], originals=True)) == 20
        assert list(catalogue.verify()) == []
        assert originals(tmp_path / "data") == set(kept)
        catalogue.close()
    database = apsw.Connection(str(tmp_path / "data" / "catalogue.db"))
    assert database.pragma("user_version") == VERSION
    database.close()


def test_a_threshold_that_came_over_is_a_record_like_any_other(tmp_path: Path) -> None:
    earlier(tmp_path / "data", 2)
    catalogue = open_catalogue(tmp_path / "data")
    collection = catalogue.get("default")
    assert collection.records.get("threshold", "manual").value == {"score": 0.25}
    with pytest.raises(RecordNotFound):
        catalogue.get("other").records.get("threshold", "manual")
    collection.set_score_threshold(None)
    assert collection.score_threshold is None and collection.records.list("threshold").records == []
    catalogue.close()


def test_what_a_killed_earlier_version_left_is_no_damage_and_is_not_removed(tmp_path: Path) -> None:
    """It kept no account of what it let go, so nothing proves whose an unknown file is: it stays, and is left alone."""
    kept = earlier(tmp_path / "data", 4)
    stray = keep(tmp_path / "data", b"its item was never committed")
    for _ in range(2):
        catalogue = open_catalogue(tmp_path / "data")
        assert list(catalogue.verify()) == []
        put(catalogue.get("default"), entry("new", 9, b"new"))  # type: ignore[arg-type]
        catalogue.close()
        assert originals(tmp_path / "data") == {*kept, stray, hashlib.sha256(b"new").hexdigest()}


def test_an_earlier_database_without_items_beside_originals_is_refused(tmp_path: Path) -> None:
    earlier(tmp_path / "data", 0)
    stray = keep(tmp_path / "data", b"all that is left")
    with pytest.raises(StoreCorrupt, match="adopt"):
        open_catalogue(tmp_path / "data")
    assert originals(tmp_path / "data") == {stray}
    catalogue = open_catalogue(tmp_path / "data", unclaimed="adopt")
    assert catalogue.unclaimed() == [stray]
    catalogue.close()


@pytest.mark.parametrize("damage", ["metadata = X'7B22FF'", "metadata = '{'", "id = X'FF69'"])
def test_a_row_that_was_damaged_before_is_damaged_after(tmp_path: Path, damage: str) -> None:
    """The checksum that a row gets on the way over does not declare it sound."""
    earlier(tmp_path / "data", 5)
    database = apsw.Connection(str(tmp_path / "data" / "catalogue.db"))
    database.execute(f"UPDATE items SET {damage} WHERE id = 'i3'")
    database.close()
    catalogue = open_catalogue(tmp_path / "data")
    collection = catalogue.get("default")
    assert {match.item.id for match in collection.search(vector(3)).matches} == {"i0", "i1", "i2", "i4"}
    assert collection.info().index.damaged == 1
    catalogue.close()


def test_many_collections_keep_their_own(tmp_path: Path) -> None:
    earlier(tmp_path / "data", 3)
    catalogue = open_catalogue(tmp_path / "data")
    assert [info.name for info in catalogue.infos()] == ["default", "other"]
    assert [info.created_at for info in catalogue.infos()] == [1.5, 2.5]
    catalogue.create("third", **MODEL)[0].set_score_threshold(0.5)
    assert catalogue.get("default").score_threshold == 0.25
    catalogue.close()
