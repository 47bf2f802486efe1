"""A process that is killed before any of its system calls leaves the old catalogue or the new one, and nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from index.errors import StoreError
from index.open import open_catalogue
from tests.conftest import absent
from tests.harness.catalogues import MODEL, entry, originals

# What changes a file or a folder; a kill between two others leaves the same as one between two of these.
CALLS = (
    "write,pwrite64,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,"
    "ftruncate,chmod,fchmod"
)
ROOT = Path(__file__).parents[2]
RESTORE = (
    "import sys; from pathlib import Path; from index.open import restore; restore(Path({!r}), Path({!r}), force=True)"
)
SNAPSHOT = """
from pathlib import Path
from index.open import open_catalogue
catalogue = open_catalogue(Path({1!r}))
catalogue.snapshot(Path({0!r}), force=True)
catalogue.close()
"""
PUT = """
from pathlib import Path
from index.open import open_catalogue
from tests.harness.catalogues import entry
catalogue = open_catalogue(Path({1!r}))
collection = catalogue.get("default")
collection.upsert([entry("old0", 5, b"replaced"), entry("more", 6, b"more")], fingerprint=collection.fingerprint)
collection.delete(["old1"])
catalogue.close()
"""


def traced(code: str, log: Path, *options: str) -> int:
    """Runs Python under strace; its exit status."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    command = ["strace", "-f", "-qq", "-o", str(log), "-e", "signal=none", *options, sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode


def calls_of(code: str, log: Path) -> list[tuple[str, int]]:
    """(call, how many times a thread makes it at most) of a run that is not disturbed."""
    assert traced(code, log, "-e", f"trace={CALLS}") == 0
    found = Counter(re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE))
    most: dict[str, int] = {}
    for (_, name), count in found.items():
        most[name] = max(most.get(name, 0), count)
    return sorted(most.items())


def killed(code: str, log: Path, name: str, number: int) -> None:
    traced(code, log, "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}")


def contents(directory: Path) -> dict[str, str]:
    """sha256 by id of all items, whose originals are whole and which are found; nothing is left over or wrong."""
    catalogue = open_catalogue(directory)
    try:
        collection = catalogue.get("default")
        found = {}
        for item in collection.scan(limit=100).items:
            assert item.media is not None
            assert hashlib.sha256(catalogue.original(item.media.sha256)).hexdigest() == item.media.sha256
            found[item.id] = item.media.sha256
        vectors = collection.vectors(list(found))
        for id, row in zip(found, vectors, strict=True):
            assert id in {match.item.id for match in collection.search(row, limit=2).matches}
        assert list(catalogue.verify()) == []
    finally:
        catalogue.close()
    assert originals(directory) == set(found.values())
    left = {path.name for path in directory.iterdir()} - {
        "catalogue.db",
        "high-water.json",
        "index",
        "lock",
        "originals",
    }
    assert left == set(), "what the killed process left is gone after the next start"
    return found


def prepared(tmp_path: Path) -> tuple[Path, Path, dict[str, str], dict[str, str]]:
    """A directory as a kill leaves it, with its log unfolded, and a snapshot of another one; what is in each."""
    (tmp_path / "a").mkdir()
    other = open_catalogue(tmp_path / "other")
    collection, _ = other.create("default", **MODEL)
    new = [entry(f"new{n}", n, b"upload %d" % n) for n in range(2, 6)]
    collection.upsert(new, fingerprint=collection.fingerprint)
    other.snapshot(tmp_path / "new.tar")
    other.close()
    live = open_catalogue(tmp_path / "live")
    collection, _ = live.create("default", **MODEL)
    old = [entry(f"old{n}", n + 50, b"upload %d" % n) for n in range(4)]
    collection.upsert(old, fingerprint=collection.fingerprint)
    shutil.copytree(tmp_path / "live", tmp_path / "old")
    live.close()
    assert (tmp_path / "old" / "catalogue.db-wal").stat().st_size

    def names(entries: list[object]) -> dict[str, str]:
        return {each.id: each.media.sha256 for each in entries}  # type: ignore[attr-defined]

    return tmp_path / "old", tmp_path / "new.tar", names(list(old)), names(list(new))


def places(code: str, log: Path, every: int) -> list[tuple[str, int]]:
    each = [(name, number) for name, count in calls_of(code, log) for number in range(1, count + 1)]
    assert len(each) > 20, "a run under strace shows its system calls"
    return each[::every]


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        absent("strace is needed to kill a process at a system call")


EVERY = [pytest.param(9, id="some"), pytest.param(1, id="every", marks=pytest.mark.slow)]


@pytest.mark.parametrize("every", EVERY)
def test_a_restore_is_whole_or_absent(tmp_path: Path, every: int) -> None:
    base, snapshot, old, new = prepared(tmp_path)
    target = tmp_path / "target"
    code = RESTORE.format(str(snapshot), str(target))
    shutil.copytree(base, target)
    seen = []
    for name, number in places(code, tmp_path / "log", every):
        shutil.rmtree(target)
        shutil.copytree(base, target)
        killed(code, tmp_path / "log", name, number)
        found = contents(target)
        assert found in (old, new), f"killed before {name} number {number}"
        seen.append(found == new)
    assert False in seen


@pytest.mark.parametrize("every", EVERY)
def test_a_snapshot_is_whole_or_absent(tmp_path: Path, every: int) -> None:
    """The file of that name is the old or the new one, and no other one stays beside it."""
    base, _, old, _ = prepared(tmp_path)
    target, folder = tmp_path / "target", tmp_path / "snapshots"
    folder.mkdir()
    file = folder / "backup.tar"
    code = SNAPSHOT.format(str(file), str(target))
    shutil.copytree(base, target)
    for name, number in places(code, tmp_path / "log", 3 * every if every > 1 else 1):
        shutil.rmtree(target)
        shutil.copytree(base, target)
        file.write_bytes(b"the one before")
        killed(code, tmp_path / "log", name, number)
        assert contents(target) == old
        assert list(folder.iterdir()) == [file], f"killed before {name} number {number}"
        if file.read_bytes() != b"the one before":
            shutil.rmtree(tmp_path / "again", ignore_errors=True)
            exec(RESTORE.format(str(file), str(tmp_path / "again")), {})
            assert contents(tmp_path / "again") == old


@pytest.mark.parametrize("every", EVERY)
def test_writes_are_whole_or_absent_and_leave_no_original(tmp_path: Path, every: int) -> None:
    base, _, old, _ = prepared(tmp_path)
    target = tmp_path / "target"
    code = PUT.format("", str(target))
    put = old | {"old0": hashlib.sha256(b"replaced").hexdigest(), "more": hashlib.sha256(b"more").hexdigest()}
    done = {id: sha256 for id, sha256 in put.items() if id != "old1"}
    shutil.copytree(base, target)
    for name, number in places(code, tmp_path / "log", 3 * every if every > 1 else 1):
        shutil.rmtree(target)
        shutil.copytree(base, target)
        killed(code, tmp_path / "log", name, number)
        assert contents(target) in (old, put, done), f"killed before {name} number {number}"


def test_a_restore_into_nothing_leaves_nothing_when_it_is_killed(tmp_path: Path) -> None:
    """There is no old one to keep: the directory is a new catalogue, or holds the snapshot's."""
    _, snapshot, _, new = prepared(tmp_path)
    target = tmp_path / "target"
    code = RESTORE.format(str(snapshot), str(target))
    for name, number in places(code, tmp_path / "log", 14):
        shutil.rmtree(target, ignore_errors=True)
        killed(code, tmp_path / "log", name, number)
        try:
            catalogue = open_catalogue(target)
        except StoreError as error:
            pytest.fail(f"killed before {name} number {number}: {error}")
        there = bool(catalogue.infos())
        catalogue.close()
        assert originals(target) == set(new.values() if there else ())
