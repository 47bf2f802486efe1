"""A database that is older than it was is refused: what is missing was acknowledged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from index.errors import StoreCorrupt
from index.open import open_catalogue, restore
from tests.harness.catalogues import MODEL, default, entry

MARK = "high-water.json"


def put(directory: Path, *numbers: int, unclaimed: str = "refuse") -> None:
    """Vectors without uploads: no originals tell of them."""
    catalogue = open_catalogue(directory, unclaimed=unclaimed)  # type: ignore[arg-type]
    collection, _ = catalogue.create("default", **MODEL)
    for n in numbers:
        collection.upsert([entry(f"i{n}", n)], fingerprint=collection.fingerprint)
    catalogue.close()


def test_an_older_database_is_refused_and_says_how_to_go_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(data, 1, 2)
    older = shutil.copy(data / "catalogue.db", tmp_path / "older.db")
    put(data, 3, 4)
    shutil.copy(older, data / "catalogue.db")
    with pytest.raises(StoreCorrupt, match=r"is at change 2 and was at 4.*snapshot restore.*high-water.json"):
        open_catalogue(data)
    looked = open_catalogue(data, unclaimed="report")
    assert any("was at 4" in finding.problem for finding in looked.verify())
    looked.close()
    with pytest.raises(StoreCorrupt):  # who looked has changed nothing
        open_catalogue(data)
    (data / MARK).unlink()
    put(data, 5)
    put(data, 6)


def test_a_restore_goes_back_on_purpose(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(data, 1, 2)
    catalogue = open_catalogue(data)
    catalogue.snapshot(tmp_path / "s.tar")
    catalogue.close()
    put(data, 3, 4)
    restore(tmp_path / "s.tar", data, force=True)
    catalogue = open_catalogue(data)
    assert {item.id for item in default(catalogue).scan().items} == {"i1", "i2"}  # type: ignore[arg-type]
    catalogue.close()


def test_a_dropped_and_an_emptied_collection_are_no_loss(tmp_path: Path) -> None:
    put(tmp_path, 1, 2, 3)
    catalogue = open_catalogue(tmp_path)
    catalogue.clear("default", **MODEL)
    catalogue.create("other", **MODEL)
    catalogue.close()
    catalogue = open_catalogue(tmp_path)
    catalogue.drop("other")
    catalogue.close()
    put(tmp_path, 1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"x": 1}', b"\xff", b'{"x": "y"}'])
def test_a_mark_that_cannot_be_read_says_nothing(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, 1)
    (tmp_path / MARK).write_bytes(content)
    put(tmp_path, 2)
