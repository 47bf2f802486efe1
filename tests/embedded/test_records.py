"""Records: compare-and-set, versions that never come again, pages, and what becomes of them with their collection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from index.errors import (
    CollectionNotFound,
    InvalidCursor,
    InvalidRecord,
    RecordConflict,
    RecordNotFound,
    StoreCorrupt,
)
from index.limits import MAX_RECORD
from index.open import open_catalogue, restore
from index.types import Catalogue
from tests.harness.catalogues import MODEL


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path / "data")
    yield opened
    opened.close()


def test_a_record_is_what_was_put_until_it_is_deleted(catalogue: Catalogue) -> None:
    records = catalogue.records
    made = records.put("job", "a", {"state": "queued", "at": [1, 2.5, None, True, "ü"]})
    assert records.get("job", "a") == made
    again = records.put("job", "a", {"state": "done"})
    assert again.version > made.version and again.updated_at >= made.updated_at
    assert records.get("job", "a").value == {"state": "done"}
    for missing in (("job", "b"), ("key", "a")):
        with pytest.raises(RecordNotFound):
            records.get(*missing)
    records.delete("job", "a")
    for gone in (records.get, records.delete):
        with pytest.raises(RecordNotFound):
            gone("job", "a")


@pytest.mark.parametrize("expected", [0, 1, 10**15])
def test_a_write_that_expects_another_version_changes_nothing(catalogue: Catalogue, expected: int) -> None:
    records = catalogue.records
    records.put("x", "other", {})
    made = records.put("x", "n", {"v": 1}, expected=0)
    assert made.version not in (0, 1)
    for write in (
        lambda: records.put("x", "n", {"v": 2}, expected=expected),
        lambda: records.delete("x", "n", expected=expected),
    ):
        with pytest.raises(RecordConflict):
            write()
    assert records.get("x", "n") == made
    records.delete("x", "n", expected=made.version)


def test_a_version_never_comes_again(catalogue: Catalogue) -> None:
    """Deleted and made anew, a record does not pass for the one that was read before."""
    records = catalogue.records
    first = records.put("x", "n", {"v": 1})
    records.delete("x", "n")
    records.put("x", "n", {"v": 1}, expected=0)
    with pytest.raises(RecordConflict):
        records.put("x", "n", {"v": 2}, expected=first.version)


def test_of_many_who_expect_the_same_version_one_wins(catalogue: Catalogue) -> None:
    records = catalogue.records
    records.put("counter", "n", {"v": 0})

    def count(times: int) -> None:
        while times:
            seen = records.get("counter", "n")
            try:
                records.put("counter", "n", {"v": seen.value["v"] + 1}, expected=seen.version)
            except RecordConflict:
                continue
            times -= 1

    threads = [threading.Thread(target=count, args=(20,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records.get("counter", "n").value == {"v": 80}


def test_lists_come_in_pages_in_the_order_of_names(catalogue: Catalogue) -> None:
    records = catalogue.records
    names = [f"a/{n:02}" for n in range(7)] + ["b/1", "a", "ä", "a%", "a_"]
    for name in names:
        records.put("k", name, {"n": name})
    records.put("l", "a/99", {})
    for prefix in ("", "a/", "a%", "z", "ä"):
        for limit in (1, 3, 100):
            found: list[str] = []
            cursor = None
            while True:
                page = records.list("k", prefix=prefix, limit=limit, cursor=cursor)
                assert len(page.records) <= limit
                found += [record.name for record in page.records]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert found == sorted(name for name in names if name.startswith(prefix))
    with pytest.raises(InvalidCursor):
        records.list("k", cursor="nonsense")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("", "n", {}),
        ("k", "", {}),
        ("k", "n" * 201, {}),
        ("k", "a\nb", {}),
        ("k", "\ud800", {}),
        ("k", "n", {"v": float("nan")}),
        ("k", "n", {"v": object()}),
        ("k", "n", {"v": "x" * MAX_RECORD}),
        ("k", "n", [1]),
    ],
)
def test_what_is_no_record_is_refused(catalogue: Catalogue, kind: str, name: str, value: Any) -> None:
    with pytest.raises(InvalidRecord):
        catalogue.records.put(kind, name, value)


def test_records_of_a_collection_are_its_own_and_go_with_it(catalogue: Catalogue) -> None:
    one, _ = catalogue.create("one", **MODEL)
    other, _ = catalogue.create("other", **MODEL)
    for number, records in enumerate((catalogue.records, one.records, other.records)):
        records.put("k", "n", {"of": number}, expected=0)
    assert [r.get("k", "n").value["of"] for r in (catalogue.records, one.records, other.records)] == [0, 1, 2]
    catalogue.clear("one")
    with pytest.raises(RecordNotFound):
        one.records.get("k", "n")
    catalogue.drop("other")
    with pytest.raises(CollectionNotFound):
        other.records.get("k", "n")
    with pytest.raises(CollectionNotFound):
        other.records.put("k", "n", {})
    assert catalogue.create("other", **MODEL)[0].records.list("k").records == []
    assert catalogue.records.get("k", "n").value == {"of": 0}


def test_records_outlive_a_restart_and_travel_with_a_snapshot(tmp_path: Path) -> None:
    first = open_catalogue(tmp_path / "a")
    collection, _ = first.create("default", **MODEL)
    collection.set_score_threshold(0.25)
    kept = [first.records.put("k", "n", {"v": 1}), collection.records.put("k", "n", {"v": 2})]
    first.snapshot(tmp_path / "s.tar")
    first.close()
    restore(tmp_path / "s.tar", tmp_path / "b")
    for directory in ("a", "b"):
        again = open_catalogue(tmp_path / directory)
        default = again.get("default")
        assert [again.records.get("k", "n"), default.records.get("k", "n")] == kept
        assert default.score_threshold == 0.25
        again.close()


def test_a_damaged_record_is_named_and_heals_by_writing_it_again(tmp_path: Path) -> None:
    opened = open_catalogue(tmp_path)
    opened.records.put("k", "n", {"v": 12345})
    opened.close()
    raw = apsw.Connection(str(tmp_path / "catalogue.db"))
    raw.execute("UPDATE records SET value = replace(value, '2', '3')")
    raw.close()
    opened = open_catalogue(tmp_path)
    with pytest.raises(StoreCorrupt, match="k/n"):
        opened.records.get("k", "n")
    opened.records.put("k", "n", {"v": 6})
    assert opened.records.get("k", "n").value == {"v": 6}
    opened.close()
