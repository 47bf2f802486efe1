"""Whatever happens to index files, their folder or single stored vectors, a collection goes on answering rightly."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import numpy as np
import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.collection import EmbeddedCollection
from index.embedded.live.upkeep.policy import Policy
from index.errors import IndexNotReady
from index.filters import parse_filter
from index.info import IndexState
from tests.harness.catalogues import MODEL, default, entry, put, settled, vector
from tests.harness.failpoints import Doing, raising

QUICK = Policy(compress_from=50, merge_from=10_000, save_from=10_000, retry=0.05, retry_most=0.05)
SLOW = Policy(compress_from=50, merge_from=10_000, save_from=10_000)  # what failed is not tried again in a test's time
COUNT = 120
EVEN = parse_filter({"must": [{"key": "even", "match": True}]})


def fill(collection: EmbeddedCollection, first: int, stop: int) -> None:
    seeds = range(first, stop)
    collection.import_vectors(
        [f"i{n}" for n in seeds],
        np.stack([vector(n) for n in seeds]),
        [{"even": n % 2 == 0} for n in seeds],
        fingerprint=MODEL["fingerprint"],
    )


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def noted(collection: EmbeddedCollection, text: str) -> IndexState:
    """The state once its note holds this text."""
    until(lambda: text in collection.info().index.note)
    return collection.info().index


def answers(collection: EmbeddedCollection, there: range, gone: tuple[int, ...] = ()) -> None:
    """Every item is its own nearest, filtered or not; those that are gone are nowhere. Waits for a rebuild."""

    def asked(seed: int) -> set[str]:
        while True:
            try:
                found = collection.search(vector(seed), limit=1).matches
                among = collection.search(vector(seed), limit=1, filter=EVEN).matches if seed % 2 == 0 else []
                (lean,) = collection.nearest(vector(seed)[None], 1)
                return {match.item.id for match in found + among} | set(lean.ids)
            except IndexNotReady:
                settled(collection)

    for seed in there:
        if seed in gone:
            assert f"i{seed}" not in asked(seed)
        else:
            assert asked(seed) == {f"i{seed}"}


def filled(directory: Path, count: int = COUNT) -> None:
    """A closed catalogue with a saved compressed index."""
    catalogue = EmbeddedCatalogue.open(directory, policy=SLOW)
    fill(default(catalogue), 0, count)
    settled(default(catalogue))
    catalogue.close()


# The folder of index files


def plain_file(data: Path) -> None:
    shutil.rmtree(data / "index")
    (data / "index").write_text("not a folder")


def plain_file_inside(data: Path) -> None:
    shutil.rmtree(data / "index" / "1")
    (data / "index" / "1").write_text("not a folder")


def dangling_link(data: Path) -> None:
    shutil.rmtree(data / "index")
    (data / "index").symlink_to(data / "nowhere" / "at" / "all")


def link_in_a_circle(data: Path) -> None:
    shutil.rmtree(data / "index")
    (data / "index").symlink_to(data / "index")


def pipe(data: Path) -> None:
    shutil.rmtree(data / "index")
    os.mkfifo(data / "index")


@pytest.mark.parametrize("spoil", [plain_file, plain_file_inside, link_in_a_circle, pipe])
def test_a_folder_that_is_none(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Something else in the place of the index folder: searched exactly, with a note, until it is put right."""
    filled(tmp_path)
    spoil(tmp_path)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=QUICK)
    collection = default(catalogue)
    state = noted(collection, "searched exactly")
    assert collection.ready and state.kind == "flat" and str(tmp_path / "index") in state.note
    fill(collection, COUNT, COUNT + 10)
    collection.delete(["i3"])
    answers(collection, range(COUNT + 10), gone=(3,))
    if (tmp_path / "index").is_dir():
        (tmp_path / "index" / "1").unlink()
    else:
        (tmp_path / "index").unlink()
    until(lambda: collection.info().index_kind != "flat")
    settled(collection)
    assert collection.info().index.note == ""
    answers(collection, range(COUNT + 10), gone=(3,))
    assert list(catalogue.verify()) == []
    catalogue.close()


def test_what_else_lies_in_the_folder_is_no_obstacle(tmp_path: Path) -> None:
    """A dangling link is replaced by what it names; foreign files and folders beside the own ones are passed over."""
    filled(tmp_path)
    dangling_link(tmp_path)
    (tmp_path / "nowhere" / "at").mkdir(parents=True)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SLOW)
    settled(default(catalogue))
    answers(default(catalogue), range(0, COUNT, 7))
    catalogue.close()
    (tmp_path / "index").unlink()
    folder = tmp_path / "index" / "1"
    folder.mkdir(parents=True)
    (folder / "000001").write_text("a file with the number of a generation")
    (folder / "000007").mkdir()
    (folder / "notes.txt").write_text("mine")
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SLOW)
    settled(default(catalogue))
    assert default(catalogue).info().index_kind == "ivf-rabitq"
    answers(default(catalogue), range(0, COUNT, 7))
    catalogue.close()


REFUSALS = [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO]


@pytest.mark.parametrize("reason", REFUSALS, ids=[errno.errorcode[number] for number in REFUSALS])
@pytest.mark.parametrize("place", ["index.create", "index.before_build"])
def test_files_that_cannot_be_made(tmp_path: Path, place: str, reason: int) -> None:
    """Read-only, full, over quota, forbidden, broken: at a start all is searched exactly, with the reason as note."""
    filled(tmp_path)
    shutil.rmtree(tmp_path / "index")
    failing = Doing(place, raising(OSError, reason, os.strerror(reason)), times=-1)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SLOW, failpoints=failing)
    collection = default(catalogue)
    state = noted(collection, os.strerror(reason))
    assert collection.ready and state.kind == "flat" and state.vectors == COUNT
    settled(collection)  # it does not go round and round
    answers(collection, range(0, COUNT, 7))
    assert not list(tmp_path.glob("index/*/*"))
    catalogue.close()


def test_a_build_that_fails_beside_what_serves(tmp_path: Path) -> None:
    """What grows past the size of exact search stays searched exactly while no index can be made."""
    failing = Doing("index.before_swap", raising(RuntimeError, "a bug"), times=-1)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SLOW, failpoints=failing)
    collection = default(catalogue)
    fill(collection, 0, COUNT)
    state = noted(collection, "a bug")
    assert "searched exactly" in state.note
    settled(collection)
    assert collection.ready and state.kind == "flat"
    answers(collection, range(0, COUNT, 7))
    assert not list(tmp_path.glob("index/*/*"))
    catalogue.close()


def test_nothing_that_can_be_built_says_why(tmp_path: Path) -> None:
    """Where not even memory takes the vectors: not ready, with the reason, and right again once it can be built."""

    class Both:
        broken = True

        def hit(self, name: str) -> None:
            if self.broken and name in ("index.create", "index.before_exact"):
                raise MemoryError("no room anywhere")

    filled(tmp_path)
    shutil.rmtree(tmp_path / "index")
    failing = Both()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=QUICK, failpoints=failing)
    collection = default(catalogue)
    noted(collection, "no room anywhere")
    assert not collection.ready
    with pytest.raises(IndexNotReady):
        collection.search(vector(1))
    assert collection.get("i7").id == "i7"
    failing.broken = False
    until(lambda: collection.ready)
    settled(collection)
    answers(collection, range(0, COUNT, 7))
    catalogue.close()


def test_the_pause_before_the_next_attempt_doubles() -> None:
    """No attempt follows at once, however often it failed, and none has to wait for ever."""
    policy = Policy(retry=60, retry_most=3_600)
    assert [policy.pause(failures) for failures in (0, 1, 2, 3, 6, 7, 5_000)] == [0, 60, 120, 240, 1_920, 3_600, 3_600]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_new_vectors_that_the_files_do_not_take(tmp_path: Path, reason: int) -> None:
    """They are found, filtered and deleted at once all the same, with a note; later the files take them."""
    failing = Doing()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=QUICK, failpoints=failing)
    collection = default(catalogue)
    fill(collection, 0, COUNT)
    settled(collection)
    failing.arm("index.append", raising(OSError, reason, os.strerror(reason)), times=-1)
    fill(collection, COUNT, COUNT + 40)
    noted(collection, os.strerror(reason))
    put(collection, entry("i5", 900))
    collection.delete(["i7", f"i{COUNT + 4}"])
    gone = (5, 7, COUNT + 4)
    assert collection.ready and collection.info().index_kind == "ivf-rabitq"
    answers(collection, range(COUNT + 40), gone)
    assert collection.nearest(vector(900)[None], 1)[0].ids == ["i5"]
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy"))
    failing.arm("", lambda: None)
    until(lambda: collection.info().index.note == "")
    settled(collection)
    for opened in (catalogue, EmbeddedCatalogue.open(copy, policy=QUICK)):  # and after a crash meanwhile
        settled(default(opened))
        answers(default(opened), range(COUNT + 40), gone)
        assert default(opened).nearest(vector(900)[None], 1)[0].ids == ["i5"]
        assert list(opened.verify()) == []
        opened.close()


def test_searches_while_spilt_vectors_go_to_the_files(tmp_path: Path) -> None:
    """At no moment is one of them missing or there twice."""
    failing = Doing()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=QUICK, failpoints=failing)
    collection = default(catalogue)
    fill(collection, 0, COUNT)
    settled(collection)
    failing.arm("index.append", raising(OSError, errno.ENOSPC, "full"), times=2)
    fill(collection, COUNT, COUNT + 40)
    while collection.info().indexing or collection.info().index.note:
        (found,) = collection.nearest(vector(COUNT + 3)[None], COUNT + 40)
        assert len(set(found.ids)) == len(found.ids) == COUNT + 40
    assert collection.info().index.vectors == COUNT + 40
    catalogue.close()


def test_an_index_that_cannot_be_saved(tmp_path: Path) -> None:
    """Searches go on, the note says why, and it is saved once it can be."""
    failing = Doing("index.save", raising(OSError, errno.ENOSPC, os.strerror(errno.ENOSPC)), times=2)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=QUICK, failpoints=failing)
    collection = default(catalogue)
    fill(collection, 0, COUNT)
    noted(collection, os.strerror(errno.ENOSPC))
    assert collection.ready
    answers(collection, range(0, COUNT, 7))
    catalogue.close()
    again = EmbeddedCatalogue.open(tmp_path, policy=SLOW)
    settled(default(again))
    answers(default(again), range(0, COUNT, 7))
    again.close()


def test_files_that_are_taken_away_from_a_running_service(tmp_path: Path) -> None:
    """What serves goes on, and is made anew in a new folder."""
    policy = Policy(compress_from=50, merge_from=10_000, save_from=5, save_share=0.01, retry=0.05, retry_most=0.05)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=policy)
    collection = default(catalogue)
    fill(collection, 0, COUNT)
    settled(collection)
    shutil.rmtree(tmp_path / "index")
    fill(collection, COUNT, COUNT + 20)
    answers(collection, range(COUNT + 20))
    until(lambda: len(list(tmp_path.glob("index/*/*/index"))) == 1)
    settled(collection)
    answers(collection, range(0, COUNT + 20, 7))
    catalogue.close()


# The files themselves


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 + 1])


def torn(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(60, len(content), 997):
        content[place] ^= 0x10
    path.write_bytes(content)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(len(path.read_bytes())))


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(len(path.read_bytes())))


def text(path: Path) -> None:
    path.write_text("a note that somebody left here\n" * 500)


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\x01" * 50_000)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def gone(path: Path) -> None:
    path.unlink()


def of_other_numbers(path: Path) -> None:
    """The same vectors as float32: twice the bytes under the same header."""
    content = path.read_bytes()
    head = 4096 if path.name in ("rows", "index") else 0
    body = content[head:]
    path.write_bytes(content[:head] + np.frombuffer(body[: len(body) // 2 * 2], "<f2").astype("<f4").tobytes())


FAULTS = [
    *(cut_to_nothing, cut_in_half, torn, flipped, zeros, noise, text, longer),
    *(a_folder, a_pipe, a_dangling_link, gone, of_other_numbers),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_file_may_be_anything(tmp_path: Path, fault: Callable[[Path], None]) -> None:
    """Each of the files spoilt in each way: opened without an error, and every answer is right."""
    filled(tmp_path / "whole")
    for name in ("rows", "keys", "checks", "names", "index"):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        (path,) = (tmp_path / name).glob(f"index/*/*/{name}")
        fault(path)
        catalogue = EmbeddedCatalogue.open(tmp_path / name, policy=SLOW)
        answers(default(catalogue), range(0, COUNT, 9))
        fill(default(catalogue), COUNT, COUNT + 1)
        answers(default(catalogue), range(COUNT, COUNT + 1))
        catalogue.close()


def test_files_of_another_collection_or_time_are_not_taken(tmp_path: Path) -> None:
    """Each file of a generation replaced by the same one of other vectors, of other sizes, and of before a write."""
    filled(tmp_path / "whole")
    before = tmp_path / "before"
    shutil.copytree(tmp_path / "whole", before)
    catalogue = EmbeddedCatalogue.open(tmp_path / "whole", policy=SLOW)
    put(default(catalogue), *[entry(f"i{n}", 2_000 + n) for n in range(30)])
    catalogue.close()
    other = EmbeddedCatalogue.open(tmp_path / "other", policy=SLOW)
    fill(default(other), 5_000, 5_000 + COUNT + 30)
    settled(default(other))
    other.close()
    for theirs in (before, tmp_path / "other"):
        for name in ("rows", "keys", "checks", "names", "index"):
            mine = tmp_path / f"{theirs.name}-{name}"
            shutil.copytree(tmp_path / "whole", mine)
            (path,), (foreign,) = mine.glob(f"index/*/*/{name}"), theirs.glob(f"index/*/*/{name}")
            shutil.copyfile(foreign, path)
            catalogue = EmbeddedCatalogue.open(mine, policy=SLOW)
            answers(default(catalogue), range(30, COUNT, 3))
            for n in (0, 7, 29):
                until(lambda: default(catalogue).ready)  # noqa: B023 - asked before the next round
                assert default(catalogue).search(vector(2_000 + n), limit=1).matches[0].item.id == f"i{n}"
            catalogue.close()


# Single stored vectors

DAMAGES = {
    "a flipped bit": "UPDATE vectors SET data = CAST(substr(data, 1, 9) || x'7f' || substr(data, 11) AS BLOB)",
    "cut short": "UPDATE vectors SET data = substr(data, 1, 20)",
    "grown": "UPDATE vectors SET data = CAST(data || x'00000000' AS BLOB)",
    "empty": "UPDATE vectors SET data = x''",
    "zeros": "UPDATE vectors SET data = zeroblob(128)",
    "a text": "UPDATE vectors SET data = 'a text'",
    "a number": "UPDATE vectors SET data = 17",
    "checksum": "UPDATE vectors SET crc = crc + 1",
    "checksum as text": "UPDATE vectors SET crc = 'none'",
    "lost": "DELETE FROM vectors",
}


def spoil_rows(directory: Path, sql: str, seeds: list[int]) -> None:
    raw = apsw.Connection(str(directory / "catalogue.db"))
    for seed in seeds:
        raw.execute(f"{sql} WHERE vid = (SELECT vid FROM items WHERE id = ?)", (f"i{seed}",))
    raw.close()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("count", [10, COUNT])
def test_a_damaged_vector_costs_itself_alone(tmp_path: Path, damage: str, count: int) -> None:
    """First, last and in between, in a small and in a compressed collection: left out, counted, named by `verify`.

    The same upload writes it anew; deleting it is another way out; both survive restarts.
    """
    bad = [0, 4, 5, count - 1]
    filled(tmp_path, count)
    spoil_rows(tmp_path, DAMAGES[damage], bad)
    shutil.rmtree(tmp_path / "index", ignore_errors=True)
    for round in ("built", "loaded"):
        catalogue = EmbeddedCatalogue.open(tmp_path, policy=SLOW)
        collection = default(catalogue)
        settled(collection)
        assert collection.ready, round
        state = collection.info().index
        assert (state.damaged, state.vectors, collection.info().count) == (4, count - 4, count), round
        answers(collection, range(count), gone=tuple(bad))
        subjects = {finding.subject for finding in catalogue.verify()}
        assert {f"item default/i{n}" for n in bad} <= subjects and "index default" not in subjects
        catalogue.close()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SLOW)
    collection = default(catalogue)
    put(collection, *[entry(f"i{n}", n, even=n % 2 == 0) for n in (0, 4)])
    collection.import_vectors(["i5"], vector(5)[None], [{"even": False}], fingerprint=MODEL["fingerprint"])
    assert collection.delete([f"i{count - 1}"]) == 1
    for _ in range(2):
        assert collection.info().index.damaged == 0
        answers(collection, range(count), gone=(count - 1,))
        assert list(catalogue.verify()) == []
        catalogue.close()
        catalogue = EmbeddedCatalogue.open(tmp_path, policy=SLOW)
        collection = default(catalogue)
        settled(collection)
    catalogue.close()


def test_all_vectors_damaged(tmp_path: Path) -> None:
    """Nothing is found, nothing fails, and each upload heals its own."""
    filled(tmp_path, 10)
    spoil_rows(tmp_path, DAMAGES["zeros"], list(range(10)))
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SLOW)
    collection = default(catalogue)
    assert collection.ready and collection.info().index.damaged == 10
    assert collection.search(vector(1)).matches == []
    put(collection, entry("i3", 3))
    assert [match.item.id for match in collection.search(vector(1)).matches] == ["i3"]
    assert collection.info().index.damaged == 9
    catalogue.close()


@pytest.mark.parametrize("count", [1_000, 3_000])
def test_a_damaged_page_costs_the_vectors_on_it(tmp_path: Path, count: int) -> None:
    """A page of the database that makes no sense any more: the rest of the collection is searched."""
    filled(tmp_path, count)
    shutil.rmtree(tmp_path / "index", ignore_errors=True)
    raw = apsw.Connection(str(tmp_path / "catalogue.db"))
    page_size = int(str(raw.execute("PRAGMA page_size").get))
    pages = [
        int(str(page))
        for (page,) in raw.execute("SELECT pageno FROM dbstat WHERE name = 'vectors' AND pagetype = 'leaf'").fetchall()
    ]
    raw.close()
    assert len(pages) > 2
    content = bytearray((tmp_path / "catalogue.db").read_bytes())
    start = (pages[1] - 1) * page_size
    content[start : start + 64] = b"\xff" * 64
    (tmp_path / "catalogue.db").write_bytes(content)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=SLOW)
    collection = default(catalogue)
    settled(collection)
    state = collection.info().index
    assert collection.ready and 0 < state.damaged < count / 2 and state.vectors == count - state.damaged
    lost = {f"i{n}" for n in range(count)} - set(collection.nearest(vector(1)[None], count)[0].ids)
    assert len(lost) == state.damaged
    catalogue.close()
