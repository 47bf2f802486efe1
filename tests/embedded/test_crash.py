"""A process that dies at the worst places leaves a store that holds what was acknowledged, and an index that agrees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.live.upkeep.policy import Policy
from tests.harness.catalogues import default, settled, vector

POLICY = Policy(compress_from=24, merge_from=4, save_from=8)

# Prints each operation before and after it, and dies without a word at the n-th passing of a failpoint.
_DRIVER = """
import json, os, random, sys
from pathlib import Path
from index.embedded.catalogue import EmbeddedCatalogue
from tests.harness.catalogues import default, entry, put, settled
from tests.embedded.test_crash import POLICY

class Dying:
    def __init__(self, name, left):
        self.name, self.left = name, left
    def hit(self, name):
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                os._exit(9)

directory, name, left, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
catalogue = EmbeddedCatalogue.open(directory, policy=POLICY, failpoints=Dying(name, left))
collection = default(catalogue)
random = random.Random(seed)
for n in range(150):
    ids = [f"id-{random.randrange(60)}" for _ in range(random.randrange(1, 5))]
    kind = random.choice(["put", "put", "put", "delete"])
    seeds = [random.randrange(10_000) for _ in ids]
    print(json.dumps([kind, ids, seeds]), flush=True)
    if kind == "put":
        put(collection, *[entry(id, s, b"%d" % s, n=s) for id, s in zip(ids, seeds)])
    else:
        collection.delete(ids)
    print("done", flush=True)
    if n % 10 == 9:
        settled(collection)
catalogue.close()
"""


def run(kind: str, ids: list[str], seeds: list[int], model: dict[str, int]) -> None:
    for id, seed in zip(ids, seeds, strict=True):
        if kind == "put":
            model[id] = seed
        else:
            model.pop(id, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("writer.before_commit", 40),
        ("writer.after_commit", 40),
        ("original.before_rename", 30),
        ("index.apply", 50),
        ("index.before_build", 1),
        ("index.before_build", 2),
        ("index.before_swap", 1),
        ("index.before_swap", 2),
        ("index.before_merge", 3),
        ("index.before_save", 1),
        ("index.before_save", 3),
        ("index.after_save", 2),
    ],
)
def test_death_at_a_failpoint(tmp_path: Path, name: str, left: int) -> None:
    """Opened again, the catalogue holds exactly the acknowledged state, give or take the one operation under way."""
    command = [sys.executable, "-c", _DRIVER, str(tmp_path), name, str(left), str(left + len(name))]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120, check=False
    )
    assert done.returncode == 9, done.stderr[-2000:]
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    for line in done.stdout.splitlines():
        if line == "done":
            before = dict(after)
        else:
            kind, ids, seeds = json.loads(line)
            run(kind, ids, seeds, after)
    catalogue = EmbeddedCatalogue.open(tmp_path, policy=POLICY)
    collection = default(catalogue)
    there = {item.id: int(item.metadata["n"]) for item in collection.scan(limit=1000).items}
    assert there in (before, after)
    settled(collection)
    assert list(catalogue.verify()) == [] or swept(catalogue)
    assert len(there) > 10
    check(collection, there)
    put_all = {item.id: item.media for item in collection.scan(limit=1000).items}
    for media in put_all.values():
        assert media is not None
        assert catalogue.original(media.sha256)
    catalogue.close()


def swept(catalogue: EmbeddedCatalogue) -> bool:
    """Originals of a write that died are orphans until the sweep after opening has come to them."""
    return any(not list(catalogue.verify()) for _ in range(100))


def check(collection: Any, there: dict[str, int]) -> None:
    # float16 rounds these 64 dimensions more coarsely than 2048: among 10,000 vectors the worst norm is off by 2e-4.
    rows = np.stack([vector(seed) for seed in there.values()]).astype(np.float64)
    for seed in list(there.values())[:20]:
        found = collection.search(vector(seed), limit=10)
        expected = np.sort(rows @ vector(seed).astype(np.float64))[::-1][:10]
        np.testing.assert_allclose([m.score for m in found.matches], expected, atol=4e-4)
        for match in found.matches:
            assert abs(float(vector(there[match.item.id]) @ vector(seed)) - match.score) < 4e-4
