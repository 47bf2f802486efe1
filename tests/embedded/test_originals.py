"""Originals go on proof alone: what the database let go, or what a write brought that was never committed."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.failpoints import Failpoints
from index.errors import ItemNotFound, StorageFull, StoreCorrupt
from index.open import open_catalogue, restore
from index.types import Catalogue
from tests.harness.catalogues import MODEL, default, entry, originals, put


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def upload(catalogue: Catalogue, *datas: bytes) -> None:
    collection, _ = catalogue.create("default", **MODEL)
    entries = [entry(sha(data)[:8], n, data, n=n) for n, data in enumerate(datas)]
    collection.upsert(entries, fingerprint=collection.fingerprint)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


DATAS = [b"upload %d" % n for n in range(12)]
KEPT = {sha(data) for data in DATAS}


def lose_database(directory: Path) -> None:
    for path in directory.glob("catalogue.db*"):
        path.unlink()


def empty_database(directory: Path) -> None:
    lose_database(directory)
    (directory / "catalogue.db").touch()


def roll_back(directory: Path) -> None:
    lose_database(directory)
    shutil.copy(directory / "earlier.db", directory / "catalogue.db")


def lose_log(directory: Path) -> None:
    shutil.copy(directory / "killed.db", directory / "catalogue.db")


def foreign_catalogue(directory: Path) -> None:
    lose_database(directory)
    other = directory / "other"
    catalogue = open_catalogue(other)
    upload(catalogue, b"another upload")
    catalogue.close()
    shutil.copy(other / "catalogue.db", directory / "catalogue.db")


LOSSES = [lose_database, empty_database, roll_back, lose_log, foreign_catalogue]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory with twelve uploads; beside it the database as it was after three, and as a kill would leave it."""
    data = tmp_path / "data"
    catalogue = open_catalogue(data)
    upload(catalogue, *DATAS[:3])
    catalogue.close()
    shutil.copy(data / "catalogue.db", data / "earlier.db")
    catalogue = open_catalogue(data)
    upload(catalogue, *DATAS)
    shutil.copy(data / "catalogue.db", data / "killed.db")  # without its log, of which nothing was folded in
    catalogue.snapshot(tmp_path / "snapshot.tar")
    catalogue.close()
    yield data


@pytest.mark.parametrize("lose", LOSSES)
def test_a_database_that_does_not_know_its_originals_is_refused(directory: Path, lose: Callable[[Path], None]) -> None:
    """In one line that names both ways out, as often as it is tried; not one file goes."""
    lose(directory)
    for _ in range(2):
        with pytest.raises(StoreCorrupt) as caught:
            open_catalogue(directory)
        line = str(caught.value)
        assert "\n" not in line and "snapshot restore" in line and "adopt" in line
        assert originals(directory) == KEPT


@pytest.mark.parametrize("lose", LOSSES)
def test_a_snapshot_brings_everything_back(directory: Path, lose: Callable[[Path], None]) -> None:
    lose(directory)
    restore(directory.parent / "snapshot.tar", directory, force=True)
    catalogue = open_catalogue(directory)
    assert {item.media.sha256 for item in catalogue.get("default").scan().items if item.media} == KEPT
    assert originals(directory) == KEPT and list(catalogue.verify()) == []
    catalogue.close()


@pytest.mark.parametrize("lose", LOSSES)
def test_adopting_gives_what_was_lost(directory: Path, lose: Callable[[Path], None]) -> None:
    """Each unknown original is handed out whole; once it has an item, or was declined, the start refuses no more."""
    lose(directory)
    catalogue = open_catalogue(directory, unclaimed="adopt")
    collection, _ = catalogue.create("default", **MODEL)
    unclaimed = catalogue.unclaimed()
    assert set(unclaimed) <= KEPT and unclaimed
    for number, sha256 in enumerate(unclaimed[1:]):
        put(collection, entry(sha256, number, catalogue.original(sha256)))  # type: ignore[arg-type]
    catalogue.leave(unclaimed[:1])
    catalogue.close()
    catalogue = open_catalogue(directory)
    assert {item.id for item in catalogue.get("default").scan().items} >= set(unclaimed[1:])
    gone = {f"original {sha(b'another upload')}"} if lose is foreign_catalogue else set()
    assert originals(directory) == KEPT and {finding.subject for finding in catalogue.verify()} == gone
    catalogue.close()


@pytest.mark.parametrize("lose", [roll_back, foreign_catalogue])
def test_verify_names_them_and_removes_nothing(directory: Path, lose: Callable[[Path], None]) -> None:
    lose(directory)
    catalogue = open_catalogue(directory, unclaimed="report")
    subjects = {finding.subject for finding in catalogue.verify()}
    assert subjects >= {f"original {sha256}" for sha256 in KEPT - {sha(data) for data in DATAS[:3]}}
    catalogue.close()
    assert originals(directory) == KEPT


def test_without_originals_an_empty_directory_is_a_new_catalogue(tmp_path: Path) -> None:
    (tmp_path / "originals" / "tmp").mkdir(parents=True)
    (tmp_path / "originals" / "ab").mkdir()
    (tmp_path / "originals" / "readme.txt").write_text("not ours")
    (tmp_path / "catalogue.db").touch()
    catalogue = open_catalogue(tmp_path)
    assert catalogue.infos() == [] and (tmp_path / "originals" / "readme.txt").exists()
    catalogue.close()


def test_what_was_let_go_is_removed_whenever_it_can_be(tmp_path: Path) -> None:
    """Deleted, replaced, dropped or emptied: the file goes, at once or at the next start; shared ones stay."""
    catalogue = open_catalogue(tmp_path)
    upload(catalogue, *DATAS)
    collection = catalogue.get("default")
    other, _ = catalogue.create("other", **MODEL)
    put(other, entry("shared", 1, DATAS[0]))  # type: ignore[arg-type]
    put(other, entry("own", 1, b"own"))  # type: ignore[arg-type]
    collection.delete([sha(DATAS[0])[:8], sha(DATAS[1])[:8]])
    put(collection, entry(sha(DATAS[2])[:8], 5, b"another"))  # type: ignore[arg-type]
    until(lambda: originals(tmp_path) == KEPT - {sha(DATAS[1]), sha(DATAS[2])} | {sha(b"another"), sha(b"own")})
    catalogue.drop("other")
    catalogue.clear("default")
    until(lambda: originals(tmp_path) == set())
    assert list(catalogue.verify()) == []
    catalogue.close()


def test_a_snapshot_puts_a_removal_off_and_does_not_forget_it(tmp_path: Path) -> None:
    catalogue = open_catalogue(tmp_path / "data")
    upload(catalogue, *DATAS)
    names = [sha(data)[:8] for data in DATAS]

    def delete(done: int, total: int) -> None:
        if names:
            catalogue.get("default").delete([names.pop()])

    made = catalogue.snapshot(tmp_path / "s.tar", progress=delete)
    assert made.originals == made.items == len(DATAS)
    until(lambda: len(originals(tmp_path / "data")) == len(names))
    catalogue.close()


class Failing(Failpoints):
    """Raises at a place, the first so many times."""

    def __init__(self, name: str, error: Exception, times: int) -> None:
        self.name, self.error, self.left = name, error, times

    def hit(self, name: str) -> None:
        if name == self.name and self.left:
            self.left -= 1
            raise type(self.error)(*self.error.args)


@pytest.mark.parametrize("place", ["original.before_rename", "writer.before_commit"])
def test_a_write_that_fails_takes_back_what_it_brought_alone(tmp_path: Path, place: str) -> None:
    """Its own new files go; those that were there, known to the database or not, stay."""
    failing = Failing(place, OSError(28, "no space"), 0)
    catalogue = EmbeddedCatalogue.open(tmp_path, failpoints=failing)
    upload(catalogue, *DATAS[:2])
    stray = tmp_path / "originals" / sha(b"stray")[:2]
    stray.mkdir(exist_ok=True)
    (stray / sha(b"stray")).write_bytes(b"stray")
    before = originals(tmp_path)
    failing.left = 1
    with pytest.raises(StorageFull):
        upload(catalogue, DATAS[1], DATAS[5], b"stray", DATAS[6])
    assert originals(tmp_path) == before
    (tmp_path / "originals" / sha(b"stray")[:2] / sha(b"stray")).unlink()
    assert list(catalogue.verify()) == []
    catalogue.close()


def test_many_writers_of_one_id_leave_one_original(tmp_path: Path) -> None:
    """Replaced while the write that brought it was still under way, a file is removed when that has ended."""
    catalogue = EmbeddedCatalogue.open(tmp_path)
    collection = default(catalogue)
    checked = threading.Event()
    findings: list[object] = []

    def write(writer: int) -> None:
        for n in range(25):
            put(collection, entry("one", n % 3, b"%d of %d" % (n, writer)))

    def watch() -> None:
        while not checked.is_set():
            findings.extend(catalogue.verify())

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    watching = threading.Thread(target=watch)
    for thread in (*threads, watching):
        thread.start()
    for thread in threads:
        thread.join()
    checked.set()
    watching.join()
    media = collection.get("one").media
    assert media is not None
    until(lambda: originals(tmp_path) == {media.sha256})
    assert findings == [], "what is in flight is not damage"
    assert list(catalogue.verify()) == []
    catalogue.close()
    EmbeddedCatalogue.open(tmp_path).close()


def test_one_file_uploaded_and_deleted_by_many_is_never_lost(tmp_path: Path) -> None:
    """An item that is there has its original, whoever deletes another one with the same upload meanwhile."""
    catalogue = EmbeddedCatalogue.open(tmp_path)
    collection = default(catalogue)

    def churn(writer: int) -> None:
        for n in range(30):
            put(collection, entry(f"i{writer}", n, b"the same"))
            assert catalogue.original(sha(b"the same")) == b"the same"
            collection.delete([f"i{writer}"])

    threads = [threading.Thread(target=churn, args=(writer,)) for writer in range(5)]
    put(collection, entry("stays", 1, b"the same"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert catalogue.original(sha(b"the same")) == b"the same"
    collection.delete(["stays"])
    until(lambda: originals(tmp_path) == set())
    with pytest.raises(ItemNotFound):
        catalogue.original(sha(b"the same"))
    catalogue.close()


def test_the_same_upload_again_heals_a_damaged_original(tmp_path: Path) -> None:
    """Cut short, or of the same length with another content."""
    catalogue = open_catalogue(tmp_path)
    upload(catalogue, *DATAS)
    for number, damage in ((0, b"cut"), (1, b"uploaD 1")):
        id, path = sha(DATAS[number])[:8], tmp_path / "originals" / sha(DATAS[number])[:2] / sha(DATAS[number])
        path.write_bytes(damage)
        assert catalogue.get("default").whole([id], originals=True) == {}
        with pytest.raises(StoreCorrupt):
            catalogue.original(sha(DATAS[number]))
    upload(catalogue, *DATAS)
    assert len(catalogue.get("default").whole([sha(data)[:8] for data in DATAS], originals=True)) == len(DATAS)
    assert list(catalogue.verify()) == []
    catalogue.close()
