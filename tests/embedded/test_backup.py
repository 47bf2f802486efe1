"""A snapshot taken from a running catalogue restores to the same catalogue elsewhere, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.errors import DirectoryLocked, SnapshotExists, StoreCorrupt
from index.open import restore
from tests.harness.catalogues import default, entry, originals, put, vector


def filled(directory: Path) -> EmbeddedCatalogue:
    catalogue = EmbeddedCatalogue.open(directory)
    put(default(catalogue), *[entry(f"i{n}", n, b"picture %d" % n, n=n) for n in range(30)])
    default(catalogue).set_score_threshold(0.4)
    return catalogue


def test_round_trip(tmp_path: Path) -> None:
    """Items, metadata, thumbnails, originals, thresholds and search results are the same after restore."""
    catalogue = filled(tmp_path / "a")
    seen: list[tuple[int, int]] = []
    made = catalogue.snapshot(tmp_path / "s.tar", progress=lambda done, total: seen.append((done, total)))
    assert (made.items, made.originals, made.missing) == (30, 30, 0)
    assert seen[-1][0] == seen[-1][1] > 0
    catalogue.close()
    assert restore(tmp_path / "s.tar", tmp_path / "b") == made
    again = EmbeddedCatalogue.open(tmp_path / "b")
    collection = default(again)
    assert [item.metadata for item in collection.scan().items if item.id == "i7"] == [{"n": 7}]
    assert collection.search(vector(7)).matches[0].item.id == "i7"
    assert collection.thumbnail("i7") == b"thumbpicture 7"
    assert again.original(collection.get("i7").media.sha256) == b"picture 7"  # type: ignore[union-attr]
    assert collection.score_threshold == 0.4
    assert list(again.verify()) == []
    beside = ("-wal", "-shm", "high-water.json")
    assert sorted(p.name for p in (tmp_path / "b").iterdir() if not p.name.endswith(beside)) == [
        "catalogue.db",
        "lock",
        "originals",
    ]
    again.close()


def test_consistent_while_written(tmp_path: Path) -> None:
    """Writes and deletes go on during a snapshot; what it holds is one moment, with every original it needs."""
    catalogue = filled(tmp_path / "a")
    collection = default(catalogue)
    stop = threading.Event()

    def write() -> None:
        n = 100
        while not stop.is_set():
            put(collection, entry(f"x{n}", n, b"x%d" % n, n=n), entry(f"y{n}", n, b"y%d" % n, n=n))
            collection.delete([f"x{n - 3}", f"y{n - 3}"])
            n += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for round in range(3):
            made = catalogue.snapshot(tmp_path / f"{round}.tar")
            assert made.missing == 0
    finally:
        stop.set()
        writer.join()
    catalogue.close()
    for round in range(3):
        restore(tmp_path / f"{round}.tar", tmp_path / f"r{round}")
        again = EmbeddedCatalogue.open(tmp_path / f"r{round}")
        there = {item.id for item in default(again).scan(limit=1000).items}
        assert {id[1:] for id in there if id[0] == "x"} == {id[1:] for id in there if id[0] == "y"}
        assert list(again.verify()) == []
        again.close()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    """Neither an existing file nor an existing catalogue is replaced without force; nor one that is in use."""
    catalogue = filled(tmp_path / "a")
    (tmp_path / "s.tar").write_text("precious")
    with pytest.raises(SnapshotExists):
        catalogue.snapshot(tmp_path / "s.tar")
    catalogue.snapshot(tmp_path / "s.tar", force=True)
    put(default(catalogue), entry("later", 99, b"later"))
    with pytest.raises(DirectoryLocked):
        restore(tmp_path / "s.tar", tmp_path / "a", force=True)
    catalogue.close()
    with pytest.raises(SnapshotExists):
        restore(tmp_path / "s.tar", tmp_path / "a")
    (tmp_path / "a" / "foreign.txt").write_text("not ours")
    restore(tmp_path / "s.tar", tmp_path / "a", force=True)
    catalogue = EmbeddedCatalogue.open(tmp_path / "a")
    assert default(catalogue).count() == 30
    assert (tmp_path / "a" / "foreign.txt").read_text() == "not ours"
    assert list(tmp_path.glob(".s.tar*")) == []
    catalogue.close()


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) * 2 // 3]


def flip_database(raw: bytes) -> bytes:
    place = raw.index(b"SQLite format 3") + 5000
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def flip_original(raw: bytes) -> bytes:
    return raw.replace(b"picture 7\0", b"picture 8\0")


def climb(raw: bytes) -> bytes:
    place = raw.index(b"originals/")
    return raw[:place] + b"../../../" + raw[place + 9 :]


@pytest.mark.parametrize("damage", [cut, flip_database, flip_original, climb, lambda raw: b"no tar", lambda raw: b""])
def test_damaged_snapshot_restores_nothing(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A cut, changed, hostile or foreign file is refused before anything in the directory is touched."""
    catalogue = filled(tmp_path / "a")
    catalogue.snapshot(tmp_path / "s.tar")
    catalogue.close()
    (tmp_path / "s.tar").write_bytes(damage((tmp_path / "s.tar").read_bytes()))
    before = (tmp_path / "a" / "catalogue.db").read_bytes()
    with pytest.raises(StoreCorrupt):
        restore(tmp_path / "s.tar", tmp_path / "a", force=True)
    assert (tmp_path / "a" / "catalogue.db").read_bytes() == before
    assert not list((tmp_path / "a").glob("restore-*"))
    catalogue = EmbeddedCatalogue.open(tmp_path / "a")
    assert list(catalogue.verify()) == []
    catalogue.close()


def test_verify_finds_each_kind_of_damage(tmp_path: Path) -> None:
    """Changed vectors, lost and changed originals, orphans and wrong counts are each named."""
    catalogue = filled(tmp_path)
    collection = default(catalogue)
    shas = [collection.get(f"i{n}").media.sha256 for n in range(3)]  # type: ignore[union-attr]
    catalogue.close()
    raw = apsw.Connection(str(tmp_path / "catalogue.db"))
    raw.execute("UPDATE vectors SET crc = crc + 1 WHERE vid = (SELECT vid FROM items WHERE id = 'i9')")
    raw.execute("UPDATE items SET metadata = '{' WHERE id = 'i10'")
    raw.execute("DELETE FROM vectors WHERE vid = (SELECT vid FROM items WHERE id = 'i11')")
    raw.close()
    catalogue = EmbeddedCatalogue.open(tmp_path)
    (tmp_path / "originals" / shas[0][:2] / shas[0]).unlink()
    (tmp_path / "originals" / shas[1][:2] / shas[1]).write_bytes(b"other")
    (tmp_path / "originals" / shas[2][:2] / (shas[2][:2] + "0" * 62)).write_bytes(b"orphan")
    found = {finding.subject: finding.problem for finding in catalogue.verify()}
    assert found.keys() == {
        "database",
        "item default/i9",
        "item default/i10",
        "item default/i11",
        f"original {shas[0]}",
        f"original {shas[1]}",
        f"original {shas[2][:2] + '0' * 62}",
    }
    assert len(originals(tmp_path)) == 30
    catalogue.close()
