"""Damage on disk costs what it hit: the rest is served, the loss is counted and named, sending it again heals it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import apsw
import numpy as np
import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.filters.sorted import bitmap, bitmap_of
from index.embedded.live.upkeep.policy import Policy
from index.embedded.store.database import Readers
from index.embedded.store.walk import Gap, Walk
from index.errors import ItemDamaged, ItemNotFound, StoreCorrupt, StoreError
from index.filters import parse_filter
from index.open import open_catalogue
from index.types import Catalogue, Collection
from tests.harness.catalogues import MODEL, entry, settled, vector

COUNT = 40
ALL = {f"i{n}" for n in range(COUNT)}
HIT = "i7"
VID = f"(SELECT vid FROM items WHERE id = '{HIT}')"
ODD = parse_filter({"must": [{"key": "even", "match": False}]})

# What happens to the row of one item, as SQL.
ROWS = {
    "metadata, still JSON": f"UPDATE items SET metadata = replace(metadata, '7', '8') WHERE vid = {VID}",
    "metadata, no JSON": f"UPDATE items SET metadata = '{{' WHERE vid = {VID}",
    "metadata, no text": f"UPDATE items SET metadata = X'FF00FE' WHERE vid = {VID}",
    "metadata, no object": f"UPDATE items SET metadata = '[1]' WHERE vid = {VID}",
    "a time": f"UPDATE items SET created_at = created_at + 1 WHERE vid = {VID}",
    "a number of pixels": f"UPDATE items SET width = 5 WHERE vid = {VID}",
    "the format": f"UPDATE items SET format = X'FF' WHERE vid = {VID}",
    "the checksum": f"UPDATE items SET crc = crc + 1 WHERE vid = {VID}",
    "the sha256": f"UPDATE items SET sha256 = substr(sha256, 1, 63) || 'x' WHERE vid = {VID}",
}
VECTORS = {
    "the vector": f"UPDATE vectors SET data = zeroblob(length(data)) WHERE vid = {VID}",
    "the vector's length": f"UPDATE vectors SET data = X'00' WHERE vid = {VID}",
    "the vector's checksum": f"UPDATE vectors SET crc = crc + 1 WHERE vid = {VID}",
    "the vector, gone": f"DELETE FROM vectors WHERE vid = {VID}",
}
THUMBNAILS = {
    "the thumbnail": f"UPDATE thumbnails SET data = X'00' || substr(data, 2) WHERE vid = {VID}",
    "the thumbnail, gone": f"DELETE FROM thumbnails WHERE vid = {VID}",
}


def sent(n: int) -> object:
    return entry(f"i{n}", n, b"upload %d" % n, n=n, even=n % 2 == 0)


def fill(directory: Path) -> None:
    catalogue = open_catalogue(directory)
    collection, _ = catalogue.create("default", **MODEL)
    collection.upsert([sent(n) for n in range(COUNT)], fingerprint=collection.fingerprint)  # type: ignore[misc]
    catalogue.close()


def execute(directory: Path, sql: str) -> None:
    database = apsw.Connection(str(directory / "catalogue.db"))
    database.execute(sql)
    database.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], tuple[Catalogue, Collection]]]:
    """opened(sql) → a filled catalogue to which that was done while it was closed."""
    left: list[Catalogue] = []

    def do(sql: str) -> tuple[Catalogue, Collection]:
        fill(tmp_path)
        execute(tmp_path, sql)
        left.append(open_catalogue(tmp_path))
        return left[0], left[0].get("default")

    yield do
    for catalogue in left:
        catalogue.close()


def found(collection: Collection) -> set[str]:
    result = collection.search(vector(7), limit=COUNT)
    assert result.filtered_count == len(result.matches)
    return {match.item.id for match in result.matches}


def heal(catalogue: Catalogue, collection: Collection) -> None:
    (written,) = collection.upsert([sent(7)], fingerprint=collection.fingerprint)  # type: ignore[list-item]
    assert written.changed and not written.created
    assert found(collection) == ALL and collection.info().index.damaged == 0
    assert collection.search(vector(7), limit=1).matches[0].item.id == HIT
    assert collection.whole([HIT], originals=True)[HIT].metadata == {"n": 7, "even": False}
    assert collection.count(ODD) == COUNT // 2 and collection.count() == COUNT
    assert list(catalogue.verify()) == []


@pytest.mark.parametrize("what", ROWS)
def test_a_damaged_row_costs_its_own_item(opened: Callable[[str], tuple[Catalogue, Collection]], what: str) -> None:
    """Left out of searches, lists, filters and counts of what passes; named by verify; healed by the same upload."""
    catalogue, collection = opened(ROWS[what])
    assert found(collection) == ALL - {HIT}
    assert collection.nearest(vector(7)[None], COUNT)[0].ids.count(HIT) == 0
    assert collection.info().index.damaged == 1 and collection.ready
    assert {item.id for item in collection.scan(limit=COUNT).items} == ALL - {HIT}
    assert collection.count(ODD) == COUNT // 2 - 1
    assert {item.id for item in collection.scan(limit=COUNT, filter=ODD).items} == {
        f"i{n}" for n in range(1, 40, 2)
    } - {HIT}
    assert collection.whole([HIT, "i8"]).keys() == {"i8"}
    with pytest.raises(ItemDamaged, match=HIT):
        collection.get(HIT)
    with pytest.raises(ItemDamaged, match=HIT):
        collection.merge_metadata(HIT, {"x": 1})
    assert {finding.subject for finding in catalogue.verify()} - {"database"} >= {f"item default/{HIT}"}
    heal(catalogue, collection)


@pytest.mark.parametrize("what", VECTORS)
def test_a_damaged_vector_costs_its_own_item(opened: Callable[[str], tuple[Catalogue, Collection]], what: str) -> None:
    """Left out of searches alone: what it is can still be read."""
    catalogue, collection = opened(VECTORS[what])
    assert found(collection) == ALL - {HIT}
    assert collection.info().index.damaged == 1 and collection.ready
    assert collection.get(HIT).metadata == {"n": 7, "even": False}
    assert collection.whole([HIT, "i8"]).keys() == {"i8"}
    with pytest.raises(ItemDamaged, match=HIT):
        collection.vectors([HIT])
    assert f"item default/{HIT}" in {finding.subject for finding in catalogue.verify()}
    heal(catalogue, collection)


@pytest.mark.parametrize("what", THUMBNAILS)
def test_a_damaged_thumbnail_is_not_shown(opened: Callable[[str], tuple[Catalogue, Collection]], what: str) -> None:
    catalogue, collection = opened(THUMBNAILS[what])
    assert found(collection) == ALL
    with pytest.raises(ItemNotFound, match=HIT):
        collection.thumbnail(HIT)
    assert collection.whole([HIT, "i8"]).keys() == {"i8"}
    (finding,) = catalogue.verify()
    assert finding.subject == f"item default/{HIT}" and "thumbnail" in finding.problem
    heal(catalogue, collection)
    assert collection.thumbnail(HIT) == b"thumbupload 7"


@pytest.mark.parametrize("what", [*ROWS, *VECTORS, *THUMBNAILS])
def test_what_is_damaged_can_be_deleted(opened: Callable[[str], tuple[Catalogue, Collection]], what: str) -> None:
    _, collection = opened({**ROWS, **VECTORS, **THUMBNAILS}[what])
    found(collection)
    assert collection.delete([HIT]) == 1
    assert found(collection) == ALL - {HIT} and collection.info().index.damaged == 0
    assert collection.count() == COUNT - 1
    with pytest.raises(ItemNotFound):
        collection.get(HIT)


@pytest.mark.parametrize("heals", [True, False])
def test_an_item_whose_id_was_hit_can_be_written_and_deleted(tmp_path: Path, heals: bool) -> None:
    """In the table, not in the index of ids: the two disagree, and neither a write nor a delete stumbles over it."""
    fill(tmp_path)
    data = (tmp_path / "catalogue.db").read_bytes()
    assert data.count(b'i7{"n":7') == 1
    (tmp_path / "catalogue.db").write_bytes(data.replace(b'i7{"n":7', b'j7{"n":7'))
    catalogue = open_catalogue(tmp_path)
    collection = catalogue.get("default")
    assert found(collection) == ALL - {HIT}
    with pytest.raises(ItemDamaged):
        collection.get(HIT)
    if heals:
        collection.upsert([sent(7)], fingerprint=collection.fingerprint)  # type: ignore[list-item]
        assert found(collection) == ALL and collection.get(HIT).metadata == {"n": 7, "even": False}
    else:
        collection.delete([HIT])
        assert found(collection) == ALL - {HIT}
        with pytest.raises(ItemNotFound):
            collection.get(HIT)
    catalogue.close()


@pytest.mark.parametrize("damage", [*ROWS.values(), *VECTORS.values()][::3])
def test_damage_that_comes_while_it_is_served(tmp_path: Path, damage: str) -> None:
    """Met by a search, not by the start: the search goes on without the item."""
    fill(tmp_path)
    catalogue = open_catalogue(tmp_path)
    collection = catalogue.get("default")
    assert found(collection) == ALL
    execute(tmp_path, damage)
    assert found(collection) >= ALL - {HIT}
    collection.upsert([sent(7)], fingerprint=collection.fingerprint)  # type: ignore[list-item]
    assert found(collection) == ALL
    catalogue.close()


def test_damage_in_a_large_collection_is_found_beside_the_serving(tmp_path: Path) -> None:
    """More rows than a start looks at are looked at after it; the index survives, whatever lies in its files."""
    fill(tmp_path)
    policy = Policy(compress_from=30, merge_from=8)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=policy)
    settled(catalogue.get("default"))
    catalogue.close()
    for what in (ROWS["metadata, still JSON"], VECTORS["the vector"].replace(HIT, "i9")):
        execute(tmp_path, what)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=policy)
    collection = catalogue.get("default")
    settled(collection)
    assert collection.ready
    assert found(collection) >= ALL - {HIT, "i9"}
    assert HIT not in found(collection)
    catalogue.close()


def flipped(file: Path, times: int, seed: int) -> None:
    data = bytearray(file.read_bytes())
    chance = random.Random(seed)
    for _ in range(times):
        data[chance.randrange(4096, len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


@pytest.mark.parametrize("seed", range(6))
def test_verify_survives_any_damage(tmp_path: Path, seed: int) -> None:
    """Two hundred flipped bits anywhere in the database: findings, in one line each, and no exception but a refusal."""
    fill(tmp_path)
    flipped(tmp_path / "catalogue.db", 200, seed)
    before = sorted(path for path in (tmp_path / "originals").rglob("*") if path.is_file())
    try:
        catalogue = open_catalogue(tmp_path, unclaimed="report")
    except StoreError as error:
        assert "snapshot restore FILE --force" in str(error) and "lookalike adopt" in str(error)
    else:
        findings = list(catalogue.verify())
        assert findings and all("\n" not in each.problem for each in findings)
        catalogue.close()
    assert sorted(path for path in (tmp_path / "originals").rglob("*") if path.is_file()) == before


def pages_of(directory: Path, table: str) -> list[int]:
    database = apsw.Connection(str(directory / "catalogue.db"))
    database.execute("PRAGMA journal_mode = delete").fetchall()
    sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno"
    found = [int(str(number)) for (number,) in database.execute(sql, (table,))]
    database.close()
    return found


@pytest.mark.parametrize("table", ["vectors", "thumbnails"])
def test_a_damaged_page_costs_the_items_on_it(tmp_path: Path, table: str) -> None:
    """A page that SQLite cannot read takes none of the others with it."""
    catalogue = open_catalogue(tmp_path)
    collection, _ = catalogue.create("default", **MODEL)
    count = 600
    sending = [entry(f"i{n}", n, b"u%d" % n + bytes(300), n=n) for n in range(count)]
    collection.upsert(sending, fingerprint=collection.fingerprint)
    catalogue.close()
    pages = pages_of(tmp_path, table)
    assert len(pages) > 2
    with (tmp_path / "catalogue.db").open("r+b") as file:
        file.seek((pages[1] - 1) * 32_768)
        file.write(b"\xff" * 512)
    catalogue = open_catalogue(tmp_path)
    collection = catalogue.get("default")
    there = {match.item.id for match in collection.search(vector(1), limit=count).matches}
    assert len(there) > 100 and (len(there) < count) == (table == "vectors")
    assert collection.info().index.damaged == count - len(there)
    subjects = {finding.subject for finding in catalogue.verify()}
    bad = [f"i{n}" for n in range(count) if f"item default/i{n}" in subjects]
    assert bad and len(bad) < count - 100 and set(bad) >= {f"i{n}" for n in range(count)} - there
    one = int(bad[0][1:])
    collection.upsert([sending[one]], fingerprint=collection.fingerprint)
    assert collection.search(vector(one), limit=1).matches[0].item.id == bad[0]
    assert collection.thumbnail(bad[0]) == b"thumb" + b"u%d" % one + bytes(300)
    assert collection.delete([bad[1]]) == 1
    catalogue.close()


@pytest.mark.parametrize("wrong", [1, 9, 2**39, 2**40 - 1])
def test_a_row_under_a_damaged_key_ends_no_walk(tmp_path: Path, wrong: int) -> None:
    """A flipped bit in a row's number puts it out of order: it alone is passed over, and the walk comes to its end."""
    apsw.Connection(str(tmp_path / "any.db")).execute("CREATE TABLE any (n)")
    readers = Readers(tmp_path / "any.db")
    lying = [1, 2, 3, 4, wrong, 6, 7, 8]

    def read(_: apsw.Connection, after: int, limit: int) -> list[int]:
        start = next((n for n, key in enumerate(range(1, 9)) if key > after), 8)
        return lying[start : start + min(limit, 3)]

    parts = list(islice(Walk(readers, read, lambda key: key), 50))
    found = [key for part in parts if not isinstance(part, Gap) for key in part]
    assert found == sorted(set(found)) and {1, 2, 3, 6, 7, 8} <= set(found) <= {1, 2, 3, 4, 6, 7, 8}
    readers.close()


def test_a_key_that_no_item_can_have_is_nobody_elses() -> None:
    assert list(bitmap(np.array([1, 2**32 + 1, -1, 2**63 - 1]))) == [1]
    assert list(bitmap_of([1, 2**32 + 1, -1, 2**63 - 1])) == [1]


def test_a_damaged_shape_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    """A bit flipped in the text of a table's definition is damage, not a statement that we got wrong."""
    fill(tmp_path / "whole")
    whole = (tmp_path / "whole" / "catalogue.db").read_bytes()
    for column in (b"next_key", b"vid INTEGER", b"updated_at", b"sha256 TEXT", b"crc INTEGER"):
        directory = shutil.copytree(tmp_path / "whole", tmp_path / column.decode())
        damaged = bytes([column[0] ^ 2]) + column[1:]
        # Also where an older text is left in the page.
        (directory / "catalogue.db").write_bytes(whole[:32_768].replace(column, damaged) + whole[32_768:])
        with pytest.raises(StoreCorrupt, match=r"snapshot restore FILE --force.*lookalike adopt"):
            open_catalogue(directory)
    open_catalogue(tmp_path / "whole").close()
