"""What the disk reports is named: no space, read-only, a failing device; nothing unacknowledged stays."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.failpoints import Failpoints
from index.errors import StorageError, StorageFailed, StorageFull, StorageReadOnly, StoreCorrupt
from index.open import open_catalogue
from tests.conftest import absent
from tests.harness.catalogues import MODEL, default, entry, originals, put

ROOT = Path(__file__).parents[2]

# Writes until it has to stop; says for each write what came of it.
WRITER = """
import sys
from pathlib import Path
from index.open import open_catalogue
from index.errors import StoreError
from tests.harness.catalogues import entry
catalogue = open_catalogue(Path(sys.argv[1]), indexes=False)
collection = catalogue.get("default")
print("ready", flush=True)
sys.stdin.readline()
for n in range(8):
    data = b"%d" % n if sys.argv[2] == "originals" else None
    try:
        collection.upsert([entry(f"new{n}", n, data)], fingerprint=collection.fingerprint)
        print(f"new{n} done", flush=True)
    except StoreError as error:
        print(f"new{n} {type(error).__name__} {error}", flush=True)
print("read", len(collection.scan(limit=100).items), flush=True)
"""


@pytest.mark.parametrize(
    ("call", "error", "kind", "word", "lasts"),
    [
        ("pwrite64", "ENOSPC", "StorageFull", "free some space", False),
        ("pwrite64", "EDQUOT", "StorageFull", "free some space", False),
        ("pwrite64", "EIO", "StorageFailed", "input/output error", False),
        ("pwrite64", "EROFS", "StorageReadOnly", "read-only", False),
        ("fdatasync", "EIO", "StorageFailed", "until the service is started again", True),
        ("fdatasync", "ENOSPC", "StorageFull", "free some space", True),
    ],
)
def test_the_database_meets_a_fault(tmp_path: Path, call: str, error: str, kind: str, word: str, lasts: bool) -> None:
    """One fault of the device: an error of its own kind and sentence, in the log too; a failed flush ends all writing.

    lasts: whether writes after it are refused as well, until a restart. What was acknowledged is there after it.
    """
    if shutil.which("strace") is None:
        absent("strace is needed to let a system call fail")
    catalogue = open_catalogue(tmp_path / "data")
    put(catalogue.create("default", **MODEL)[0], entry("old", 1))  # type: ignore[arg-type]
    catalogue.close()
    code = [sys.executable, "-c", WRITER, str(tmp_path / "data"), "none"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        code,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=env,
    ) as process:
        assert process.stdout and process.stdin and process.stderr
        assert process.stdout.readline() == "ready\n"
        inject = f"inject={call}:error={error}:when=3"
        tracing = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            "-e",
            inject,
            "-p",
            str(process.pid),
        ]
        with subprocess.Popen(tracing, stderr=subprocess.DEVNULL) as strace:
            while f"TracerPid:\t{strace.pid}" not in Path(f"/proc/{process.pid}/status").read_text():
                assert strace.poll() is None, "strace may not attach here"
                time.sleep(0.01)
            told, log = process.communicate("go\n", timeout=60)
            strace.wait(10)
    lines = dict(line.split(" ", 1) for line in told.splitlines())
    failed = [id for id, what in lines.items() if id != "read" and what != "done"]
    assert failed and lines[failed[0]].startswith(kind) and (word in lines[failed[0]] or lasts)
    assert "input/output" not in lines[failed[0]] or kind == "StorageFailed"
    assert lines[failed[0]].split(" ", 1)[1][:20] in log, "the log has a line of it"
    if lasts:
        assert failed == [f"new{n}" for n in range(int(failed[0][3:]), 8)]
        assert "until the service is started again" in lines["new7"]
    else:
        assert len(failed) == 1
    catalogue = open_catalogue(tmp_path / "data")
    there = {item.id for item in catalogue.get("default").scan().items}
    assert there >= {"old", *(id for id, what in lines.items() if what == "done")}
    assert int(lines["read"]) == len(lines) - len(failed)
    assert list(catalogue.verify()) == []
    catalogue.close()


class Failing(Failpoints):
    def __init__(self, name: str, number: int) -> None:
        self.name, self.number, self.armed = name, number, True

    def hit(self, name: str) -> None:
        if name == self.name and self.armed:
            raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "kind", "lasts"),
    [(5, StorageFailed, True), (30, StorageReadOnly, False), (28, StorageFull, False), (122, StorageFull, False)],
)
def test_an_original_meets_a_fault(tmp_path: Path, number: int, kind: type[StorageError], lasts: bool) -> None:
    """As the database does: its own error, no file and no item; after an error of the device nothing is written."""
    failing = Failing("original.before_rename", number)
    catalogue = EmbeddedCatalogue.open(tmp_path, failpoints=failing)
    collection = default(catalogue)
    with pytest.raises(kind):
        put(collection, entry("a", 1, b"upload"))
    failing.armed = False
    assert originals(tmp_path) == set() and collection.scan().items == []
    if lasts:
        with pytest.raises(StorageFailed, match="started again"):
            put(collection, entry("b", 2))
    else:
        put(collection, entry("b", 2))
    catalogue.close()
    catalogue = EmbeddedCatalogue.open(tmp_path)
    put(default(catalogue), entry("a", 1, b"upload"))
    assert list(catalogue.verify()) == []
    catalogue.close()


def test_what_is_written_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, and also where an earlier version was more generous."""
    before = os.umask(0)
    try:
        catalogue = open_catalogue(tmp_path / "data")
        put(catalogue.create("default", **MODEL)[0], entry("a", 1, b"upload"))  # type: ignore[arg-type]
        catalogue.snapshot(tmp_path / "s.tar")
        files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert {"catalogue.db", "catalogue.db-wal"} <= {path.name for path in files}
        for path in (*files, tmp_path / "s.tar"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        catalogue.close()
    finally:
        os.umask(before)
    (tmp_path / "data" / "catalogue.db").chmod(0o644)
    open_catalogue(tmp_path / "data").close()
    assert stat.S_IMODE((tmp_path / "data" / "catalogue.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["originals", "originals/tmp", "catalogue.db"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "catalogue.db":
        path.mkdir()
    else:
        path.write_text("not a folder")
    with pytest.raises(StoreCorrupt, match="move it away") as caught:
        open_catalogue(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.rmdir() if name == "catalogue.db" else path.unlink()
    open_catalogue(tmp_path).close()


def test_index_as_a_file_does_not_keep_a_collection_from_being_searched(tmp_path: Path) -> None:
    """It holds only what can be made again: what is in its place is left alone, and the service is ready."""
    catalogue = open_catalogue(tmp_path)
    put(catalogue.create("default", **MODEL)[0], entry("a", 1))  # type: ignore[arg-type]
    catalogue.close()
    shutil.rmtree(tmp_path / "index", ignore_errors=True)
    (tmp_path / "index").write_text("somebody's")
    catalogue = open_catalogue(tmp_path)
    assert catalogue.get("default").ready
    assert catalogue.get("default").search(entry("a", 1).vector).matches[0].item.id == "a"
    catalogue.close()
    assert (tmp_path / "index").read_text() == "somebody's"


def test_a_clock_that_is_set_back_turns_no_time_round(tmp_path: Path) -> None:
    """An item is never older than its last change, whatever the clock says when it is changed."""
    code = """
import sys, time
from pathlib import Path
back = float(sys.argv[2])
real = time.time
time.time = lambda: real() - back
from index.open import open_catalogue
from tests.harness.catalogues import MODEL, entry
catalogue = open_catalogue(Path(sys.argv[1]))
collection, _ = catalogue.create("default", **MODEL)
fingerprint = collection.fingerprint
collection.upsert([entry("replaced", int(back), b"%d" % back), entry("described", 1, n=back)], fingerprint=fingerprint)
collection.merge_metadata("described", {"more": back})
catalogue.close()
"""
    for back in ("0", "86400", "3600"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code, str(tmp_path), back], cwd=ROOT, env=environment, check=True)
    catalogue = open_catalogue(tmp_path)
    for item in catalogue.get("default").scan().items:
        assert item.created_at <= item.updated_at
        assert time.time() - item.updated_at < 3600, "the last change that the clock knew"
    catalogue.close()
