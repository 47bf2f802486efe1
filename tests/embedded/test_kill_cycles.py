"""Killed at random moments, over and over: each acknowledged write is there once, and nothing deleted returns."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.live.upkeep.policy import Policy
from tests.harness.catalogues import default, settled, vector
from tests.harness.serving import ROOT
from tests.harness.soak import SOAK

POLICY = Policy(compress_from=48, merge_from=6, save_from=12)
CYCLES = 200 if SOAK else 20

# Says what it is about to do, and `done` once that was acknowledged.
DRIVER = """
import random, sys
from pathlib import Path
from index.embedded.catalogue import EmbeddedCatalogue
from tests.embedded.test_kill_cycles import POLICY
from tests.harness.catalogues import default, entry, put
random = random.Random(int(sys.argv[2]))
catalogue = EmbeddedCatalogue.open(Path(sys.argv[1]), policy=POLICY)
collection = default(catalogue)
print("ready", flush=True)
while True:
    id, seed = f"id-{random.randrange(150)}", random.randrange(1_000_000)
    if random.random() < 0.8:
        print("put", id, seed, flush=True)
        put(collection, entry(id, seed, b"upload %d" % seed, n=seed))
    else:
        print("delete", id, seed, flush=True)
        collection.delete([id])
    print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800 if SOAK else 300)
def test_acknowledged_writes_survive_many_kills(tmp_path: Path) -> None:
    rng = random.Random(11)
    there: dict[str, int] = {}
    acknowledged = 0
    for cycle in range(CYCLES):
        before, after = there, dict(there)
        with subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path), str(cycle)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process:
            assert process.stdout and process.stdout.readline() == "ready\n"
            threading.Event().wait(rng.uniform(0.02, 0.4))
            process.kill()
            for line in process.stdout:
                if line == "done\n":
                    before, acknowledged = dict(after), acknowledged + 1
                elif line.endswith("\n"):
                    kind, id, seed = line.split()
                    after[id] = int(seed)
                    if kind == "delete":
                        del after[id]
        catalogue = EmbeddedCatalogue.open(tmp_path, policy=POLICY)
        collection = default(catalogue)
        there = {item.id: int(item.metadata["n"]) for item in collection.scan(limit=1000).items}
        assert there in (before, after), f"killed in cycle {cycle}"
        assert collection.count() == len(there)
        if cycle % 5 == 4:
            settled(collection)
            # What a write that died has left is removed soon after opening.
            assert any(not list(catalogue.verify()) for _ in range(100))
            for number in list(there.values())[:10]:
                assert there[collection.search(vector(number), limit=1).matches[0].item.id] == number
            assert {match.item.id for match in collection.search(vector(1), limit=200).matches} == set(there)
        catalogue.close()
    assert acknowledged > 0
