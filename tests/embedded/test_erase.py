"""What was deleted is, after an erasure, nowhere among the bytes of the data directory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.live.upkeep.policy import Policy
from index.errors import StoreClosed
from index.items import Entry, Match
from tests.harness.catalogues import default, entry, originals, put, settled, vector
from tests.harness.serving import ROOT

POLICY = Policy(compress_from=64, merge_from=8, save_from=8)


def secret(number: int) -> Entry:
    """An item of which every part can be recognised among bytes."""
    return entry(f"secret-{number:04}", number, f"uploaded secret {number:04} ".encode() * 40, note=f"hush {number:04}")


def traces(directory: Path, number: int) -> list[str]:
    """Where bytes of that item lie: its id, metadata, upload, thumbnail, vector."""
    wanted = {
        "id": f"secret-{number:04}".encode(),
        "metadata": f"hush {number:04}".encode(),
        "upload": f"uploaded secret {number:04}".encode(),
        "vector": vector(number).astype("<f2").tobytes(),
    }
    found = []
    for path in (path for path in directory.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found += [f"{what} in {path.relative_to(directory)}" for what, each in wanted.items() if each in content]
    return found


@pytest.fixture
def filled(tmp_path: Path) -> EmbeddedCatalogue:
    """200 items in random order, so that pages were split; replaced, patched, indexed, and searched for."""
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=POLICY)
    collection = default(catalogue)
    numbers = list(range(200))
    random.Random(5).shuffle(numbers)
    for start in range(0, 200, 20):
        put(collection, *[secret(number) for number in numbers[start : start + 20]])
    settled(collection)
    for number in numbers[:60]:
        collection.merge_metadata(f"secret-{number:04}", {"more": "x" * random.Random(number).randrange(900)})
        collection.search(vector(number))
    settled(collection)
    collection.index.save()
    return catalogue


def test_items_that_were_deleted_leave_no_byte(filled: EmbeddedCatalogue, tmp_path: Path) -> None:
    collection = default(filled)
    assert collection.index.kind != "flat" and {each.split()[0] for each in traces(tmp_path, 17)} == {
        *("id", "metadata", "upload", "vector")
    }
    gone, replaced = range(60), range(60, 70)
    collection.delete([f"secret-{number:04}" for number in gone])
    put(collection, *[Entry(f"secret-{number:04}", vector(1000 + number), {}) for number in replaced])
    assert traces(tmp_path, 17), "without an erasure something stays"
    assert filled.erase_due() is not None

    erased = filled.erase()

    assert erased.left == () and filled.erase_due() is None
    for number in gone:
        assert traces(tmp_path, number) == []
    for number in replaced:
        assert [each for each in traces(tmp_path, number) if not each.startswith("id")] == []
    kept = {f"secret-{number:04}" for number in range(60, 200)}
    assert {item.id for item in collection.scan(limit=1000).items} == kept
    assert {match.item.id for match in collection.search(vector(150), limit=100).matches} <= kept
    assert collection.search(vector(150)).matches[0].item.id == "secret-0150"
    assert list(filled.verify()) == []
    filled.close()
    again = EmbeddedCatalogue.open(tmp_path, policy=POLICY)
    assert {item.id for item in default(again).scan(limit=1000).items} == kept
    assert list(again.verify()) == [] and traces(tmp_path, 17) == []
    again.close()


def test_a_collection_that_was_dropped_leaves_no_byte(filled: EmbeddedCatalogue, tmp_path: Path) -> None:
    """Neither do its records; another one that has a picture in common keeps it."""
    other, _ = filled.create("other", model="test", fingerprint="test-1", dim=64)
    other.upsert([secret(3)], fingerprint="test-1")
    default(filled).records.put("note", "one", {"text": "whispered to a record"})
    filled.drop("default")
    assert filled.erase().left == ()
    assert traces(tmp_path, 4) == [] and traces(tmp_path, 150) == []
    assert all(b"whispered to a record" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(originals(tmp_path)) == 1 and filled.original(secret(3).media.sha256)  # type: ignore[union-attr]
    assert list(filled.verify()) == []
    filled.close()


def test_writes_and_searches_go_on_beside_it(filled: EmbeddedCatalogue, tmp_path: Path) -> None:
    """Each write that returned is there; no search fails or finds what is gone."""
    collection = default(filled)
    collection.delete(["secret-0001"])
    done: list[str] = []
    wrong: list[Match] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            number = 2000 + len(done)
            put(collection, entry(f"new-{number}", number, b"%d" % number))
            done.append(f"new-{number}")

    def search() -> None:
        while not over.is_set():
            wrong.extend(m for m in collection.search(vector(2), limit=50).matches if m.item.id == "secret-0001")

    threads = [threading.Thread(target=each) for each in (write, search)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        assert filled.erase().left == ()
    over.set()
    for thread in threads:
        thread.join()
    assert done and not wrong and traces(tmp_path, 1) == []
    assert {item.id for item in collection.scan(limit=1000).items} >= set(done)
    settled(collection)
    assert list(filled.verify()) == []
    filled.close()


def test_one_that_is_given_up_changes_nothing_and_stays_due(filled: EmbeddedCatalogue) -> None:
    collection = default(filled)
    collection.delete(["secret-0001"])
    with pytest.raises(StoreClosed, match="erase again"):
        filled.erase(lambda: True)
    assert filled.erase_due() is not None and collection.count() == 199
    put(collection, secret(1))
    filled.erase()
    assert filled.erase_due() is None and list(filled.verify()) == []
    filled.close()


# Deletes and erases, over and over, and says before and after each what it does.
_DRIVER = """
import sys
from pathlib import Path
from index.embedded.catalogue import EmbeddedCatalogue
from tests.embedded.test_erase import POLICY
from tests.harness.catalogues import default
catalogue = EmbeddedCatalogue.open(Path(sys.argv[1]), policy=POLICY)
collection = default(catalogue)
print("ready", flush=True)
for number in range(200):
    collection.delete([f"secret-{number:04}"])
    print(number, flush=True)
    catalogue.erase()
"""


def test_killed_at_any_moment_it_loses_nothing(filled: EmbeddedCatalogue, tmp_path: Path) -> None:
    filled.close()
    env: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    deleted, rng = 0, np.random.default_rng(3)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", _DRIVER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env
        ) as process:
            assert process.stdout and process.stdout.readline() == "ready\n"
            for _ in range(int(rng.integers(1, 5))):
                deleted = max(deleted, int(process.stdout.readline()) + 1)
            threading.Event().wait(float(rng.uniform(0, 0.2)))
            process.kill()
            rest = process.stdout.read().split()
            deleted = max([deleted, *(int(each) + 1 for each in rest)])
        catalogue = EmbeddedCatalogue.open(tmp_path, policy=POLICY)
        there = {item.id for item in default(catalogue).scan(limit=1000).items}
        sure = {f"secret-{number:04}" for number in range(deleted + 1, 200)}
        assert sure <= there <= sure | {f"secret-{deleted:04}"}
        assert list(catalogue.verify()) == []
        catalogue.close()
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=POLICY)
    assert catalogue.erase().left == () and traces(tmp_path, 0) == []
    catalogue.close()
