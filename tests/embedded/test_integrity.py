"""What of a database does not fit together is found by `verify` and named, each kind with its number."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from index.open import open_catalogue
from tests.harness.catalogues import MODEL, entry

COUNT = 12
FIRST = "(SELECT min(vid) FROM items)"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (f"DELETE FROM vectors WHERE vid = {FIRST}", "1 items without a vector"),
        ("INSERT INTO vectors SELECT vid + 100, crc, data FROM vectors LIMIT 3", "3 vectors without an item"),
        ("INSERT INTO thumbnails SELECT vid + 100, X'00' FROM items LIMIT 2", "2 thumbnails without an item"),
        (f"UPDATE items SET collection = collection + 1 WHERE vid = {FIRST}", "1 items outside their collection"),
        (
            "UPDATE collections SET count = count + 5",
            f"collection default counts {COUNT + 5} items and has {COUNT}",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, damage: str, expected: str) -> None:
    """Each kind of misfit, with the way out."""
    catalogue = open_catalogue(tmp_path)
    collection, _ = catalogue.create("default", **MODEL)
    collection.upsert([entry(f"i{n}", n) for n in range(COUNT)], fingerprint=collection.fingerprint)
    catalogue.close()
    raw = apsw.Connection(str(tmp_path / "catalogue.db"))
    raw.execute(damage)
    raw.close()
    catalogue = open_catalogue(tmp_path)
    found = [finding.problem for finding in catalogue.verify() if finding.subject == "database"]
    catalogue.close()
    assert f"{expected}; restore a snapshot" in found
