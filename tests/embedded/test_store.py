"""What was acknowledged is on disk and whole, whatever happens to the process, the disk or the bytes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.failpoints import Failpoints
from index.errors import DirectoryLocked, ItemDamaged, SchemaTooNew, StorageFull, StoreCorrupt
from index.items import Entry
from tests.harness.catalogues import MODEL, default, entry, originals, put, vector

_WRITER = """
import sys
from pathlib import Path
from index.embedded.catalogue import EmbeddedCatalogue
from tests.harness.catalogues import MODEL, entry, put
catalogue = EmbeddedCatalogue.open(Path(sys.argv[1]))
collection, _ = catalogue.create("default", **MODEL)
for n in range(100_000):
    put(collection, entry(f"a{n}", n, b"%d" % n, n=n), entry(f"b{n}", n + 500_000, n=n))
    if n:
        collection.delete([f"b{n - 1}"])
    print(n, flush=True)
"""


def spawn(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("wait", [0.2, 0.6])
def test_kill_in_the_middle_of_writes(tmp_path: Path, wait: float) -> None:
    """After SIGKILL every acknowledged write is there and found, deletes are gone, each call is whole or absent."""
    with spawn(_WRITER, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        acknowledged = [int(line) for line in process.stdout.read().split()]
    last = acknowledged[-1] if acknowledged else 0
    (tmp_path / "originals" / "tmp" / "half").write_bytes(b"written by a process that died")
    (tmp_path / "foreign.txt").write_text("not ours")
    catalogue = EmbeddedCatalogue.open(tmp_path)
    collection = default(catalogue)
    for n in range(last + 1):
        assert collection.get(f"a{n}").metadata == {"n": n}
        assert collection.search(vector(n), limit=1).matches[0].item.id == f"a{n}"
    there = [item.id for item in collection.scan(limit=10**6).items]
    assert set(there) - {f"a{n}" for n in range(last + 2)} <= {f"b{last - 1}", f"b{last}", f"b{last + 1}"}
    for id in there:
        media = collection.get(id).media
        assert media is None or catalogue.original(media.sha256)
    deadline = time.monotonic() + 10
    wanted = {item.media.sha256 for item in collection.scan(limit=10**6).items if item.media}
    while originals(tmp_path) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert originals(tmp_path) == wanted, "an original that no item refers to is swept after a crash"
    assert (tmp_path / "foreign.txt").read_text() == "not ours"
    catalogue.close()


class Raising(Failpoints):
    """Raises at one named place, as often as asked."""

    def __init__(self, name: str, error: Exception, times: int = 1) -> None:
        self.name, self.error, self.times = name, error, times

    def hit(self, name: str) -> None:
        if name == self.name and self.times:
            self.times -= 1
            raise self.error


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """An upsert that fails before its commit leaves no row, no vector, no original, and the store goes on."""
    catalogue = EmbeddedCatalogue.open(
        tmp_path, failpoints=Raising("writer.before_commit", RuntimeError("power"), times=0)
    )
    collection = default(catalogue)
    catalogue.close()
    catalogue = EmbeddedCatalogue.open(tmp_path, failpoints=Raising("writer.before_commit", OSError(28, "no space")))
    collection = default(catalogue)
    with pytest.raises(StorageFull):
        put(collection, entry("a", 1, b"x"))
    assert collection.count() == 0
    put(collection, entry("b", 2, b"y"))
    assert [m.item.id for m in collection.search(vector(1)).matches] == ["b"]
    catalogue.close()
    assert len(originals(tmp_path)) == 1


def test_no_space_for_an_original(tmp_path: Path) -> None:
    """An original that cannot be written refuses its item and leaves no half file."""
    catalogue = EmbeddedCatalogue.open(tmp_path, failpoints=Raising("original.before_rename", OSError(28, "no space")))
    collection = default(catalogue)
    with pytest.raises(StorageFull):
        put(collection, entry("a", 1, b"x"))
    assert originals(tmp_path) == set()
    put(collection, entry("a", 1, b"x"))
    assert catalogue.original(collection.get("a").media.sha256) == b"x"  # type: ignore[union-attr]
    catalogue.close()


def test_failed_apply_rebuilds(tmp_path: Path) -> None:
    """A committed change that the index cannot take: the write stays, the index is rebuilt, nothing diverges."""
    catalogue = EmbeddedCatalogue.open(tmp_path, failpoints=Raising("index.apply", MemoryError("index")))
    collection = default(catalogue)
    put(collection, entry("a", 1))
    assert collection.get("a").id == "a"
    deadline = time.monotonic() + 10
    while not collection.ready and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [m.item.id for m in collection.search(vector(1)).matches] == ["a"]
    put(collection, entry("b", 2))
    assert collection.search(vector(2)).matches[0].item.id == "b"
    catalogue.close()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow above 3 MB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_full(tmp_path: Path, small_files: None) -> None:
    """On a full disk a write is refused whole, reads and searches go on, and so do writes once there is room again."""
    catalogue = EmbeddedCatalogue.open(tmp_path)
    collection = default(catalogue)
    put(collection, entry("kept", 1))
    written = 1
    with pytest.raises(StorageFull):
        for n in range(2, 2000):
            put(collection, *[Entry(f"i{n}.{part}", vector(n), {"pad": "x" * 50_000}) for part in range(4)])
            written += 4
    assert collection.count() == written
    assert collection.search(vector(1), limit=1).matches[0].item.id == "kept"
    with pytest.raises(StorageFull):
        put(collection, Entry("big", vector(3), thumbnail=b"x" * 3_000_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    put(collection, entry("after", 9999))
    assert collection.search(vector(9999), limit=1).matches[0].item.id == "after"
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    catalogue.close()


def test_damaged_vector_is_not_served(tmp_path: Path) -> None:
    """A vector whose bytes changed on disk is named and left out of searches; uploading it again heals it."""
    catalogue = EmbeddedCatalogue.open(tmp_path)
    put(default(catalogue), entry("good", 1), entry("bad", 2))
    catalogue.close()
    raw = apsw.Connection(str(tmp_path / "catalogue.db"))
    (blob,) = raw.execute("SELECT data FROM vectors ORDER BY vid DESC LIMIT 1").fetchone()  # type: ignore[misc]
    raw.execute("UPDATE vectors SET data = ? WHERE data = ?", (b"\x01" + bytes(blob)[1:], blob))
    raw.close()
    catalogue = EmbeddedCatalogue.open(tmp_path)
    collection = default(catalogue)
    assert collection.ready
    assert [match.item.id for match in collection.search(vector(2)).matches] == ["good"]
    with pytest.raises(ItemDamaged, match="'bad'"):
        collection.vectors(["good", "bad"])
    put(collection, entry("bad", 2))
    assert collection.search(vector(2), limit=1).matches[0].item.id == "bad"
    catalogue.close()


def test_damaged_original_is_not_served(tmp_path: Path) -> None:
    """An original whose bytes changed on disk is refused."""
    catalogue = EmbeddedCatalogue.open(tmp_path)
    collection = default(catalogue)
    put(collection, entry("a", 1, b"picture"))
    media = collection.get("a").media
    assert media is not None
    next(path for path in (tmp_path / "originals").rglob(media.sha256)).write_bytes(b"pictvre")
    with pytest.raises(StoreCorrupt):
        catalogue.original(media.sha256)
    catalogue.close()


def test_second_owner_is_refused(tmp_path: Path) -> None:
    """A directory in use is refused with the owner's pid, in this process and in another; free again after close."""
    catalogue = EmbeddedCatalogue.open(tmp_path)
    with pytest.raises(DirectoryLocked) as caught:
        EmbeddedCatalogue.open(tmp_path)
    assert caught.value.pid == os.getpid()
    other = (
        "import sys; from pathlib import Path; from index.embedded.catalogue import EmbeddedCatalogue\n"
        "EmbeddedCatalogue.open(Path(sys.argv[1]))"
    )
    result = subprocess.run([sys.executable, "-c", other, str(tmp_path)], capture_output=True, text=True, check=False)
    assert f"in use by process {os.getpid()}" in result.stderr
    catalogue.close()
    EmbeddedCatalogue.open(tmp_path).close()


def test_foreign_and_newer_databases_are_left_alone(tmp_path: Path) -> None:
    """A database of a newer version, of another program, or no database at all: one clear error, bytes untouched."""
    path = tmp_path / "catalogue.db"
    EmbeddedCatalogue.open(tmp_path).close()
    raw = apsw.Connection(str(path))
    raw.pragma("user_version", 999)
    raw.close()
    with pytest.raises(SchemaTooNew, match="newer Lookalike"):
        EmbeddedCatalogue.open(tmp_path)
    path.unlink()
    raw = apsw.Connection(str(path))
    raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    with pytest.raises(StoreCorrupt, match="another program"):
        EmbeddedCatalogue.open(tmp_path)
    path.write_bytes(b"no database, but long enough to be taken for one" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt):
        EmbeddedCatalogue.open(tmp_path)
    assert path.read_bytes() == before


def test_originals_may_be_switched_off(tmp_path: Path) -> None:
    """Without originals the item keeps what is known of its picture, and no bytes lie beside it."""
    catalogue = EmbeddedCatalogue.open(tmp_path, keep_originals=False)
    collection = catalogue.create("default", **MODEL)[0]
    put(collection, entry("a", 1, b"x"))
    assert collection.get("a").media is not None
    assert originals(tmp_path) == set()
    catalogue.close()
