"""Whatever is done to a collection in whatever order, it answers like a dictionary and numpy."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from index.embedded.catalogue import EmbeddedCatalogue
from index.embedded.live.upkeep.policy import Policy
from index.filters import parse_filter
from index.items import Entry
from index.open import restore
from tests.harness.catalogues import MODEL, default, settled, vector
from tests.harness.failpoints import Doing, raising
from tests.harness.soak import examples

# So small that every sequence of some steps passes from exact to compressed, through merges, saves and rebuilds.
POLICY = Policy(compress_from=16, merge_from=3, save_from=6, growth=1.5)
ids = st.sampled_from([f"id-{n}" for n in range(40)])
seeds = st.integers(0, 30)
metadata = st.fixed_dictionaries(
    {},
    optional={
        "brand": st.sampled_from(["acme", "zeta"]),
        "price": st.integers(0, 5),
        "size": st.lists(st.sampled_from("SML"), max_size=2),
    },
)
filters = st.sampled_from(
    [
        {},
        {"must": [{"key": "brand", "match": "acme"}]},
        {"must_not": [{"key": "brand", "match": "acme"}]},
        {"must": [{"key": "price", "range": {"gte": 1, "lt": 4}}]},
        {"should": [{"key": "size", "any": ["S", "L"]}, {"key": "price", "match": 5}]},
        {"must": [{"key": "nothing", "match": 1}]},
    ]
).map(parse_filter)


class CollectionMachine(RuleBasedStateMachine):
    """The model: id → (unit vector, metadata)."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="machine-"))
        self.cleared = False
        self.model: dict[str, tuple[Any, dict[str, Any]]] = {}
        self.failpoints = Doing()
        self.open()

    def open(self) -> None:
        self.catalogue = EmbeddedCatalogue.open(self.directory, policy=POLICY, failpoints=self.failpoints)
        self.collection = default(self.catalogue)

    def teardown(self) -> None:
        self.catalogue.close()
        shutil.rmtree(self.directory)

    def quiet(self) -> None:
        """Nothing goes on in the background any more."""
        settled(self.collection)
        self.collection.delete([])

    @initialize(count=st.integers(0, 40))
    def fill(self, count: int) -> None:
        self.upsert([(f"id-{n}", n, {"price": n % 6}) for n in range(count)])

    @rule(entries=st.lists(st.tuples(ids, seeds, metadata), min_size=1, max_size=6))
    def upsert(self, entries: list[tuple[str, int, dict[str, Any]]]) -> None:
        written = self.collection.upsert(
            [Entry(id, vector(seed), meta) for id, seed, meta in entries], fingerprint=MODEL["fingerprint"]
        )
        for (id, seed, meta), one in zip(entries, written, strict=True):
            assert one.created == (id not in self.model)
            self.model[id] = (vector(seed).astype(np.float64), meta)

    @rule(id=ids, patch=metadata)
    def merge(self, id: str, patch: dict[str, Any]) -> None:
        if id in self.model:
            self.collection.merge_metadata(id, patch)
            self.model[id] = (self.model[id][0], {**self.model[id][1], **patch})

    @rule(gone=st.lists(ids, max_size=4))
    def delete(self, gone: list[str]) -> None:
        assert self.collection.delete(gone) == len(set(gone) & set(self.model))
        for id in gone:
            self.model.pop(id, None)

    @rule(filter=filters)
    def delete_where(self, filter: Any) -> None:
        gone = [id for id, (_, meta) in self.model.items() if filter.accepts(meta)]
        assert self.collection.delete_where(filter) == len(gone)
        for id in gone:
            del self.model[id]

    @rule()
    def clear(self) -> None:
        self.catalogue.clear("default")
        self.model.clear()
        self.cleared = True

    @rule()
    def restart(self) -> None:
        self.catalogue.close()
        self.open()
        self.quiet()

    @rule()
    def verify(self) -> None:
        self.quiet()
        assert [found for found in self.catalogue.verify() if found.subject.startswith("index")] == []

    @rule()
    def rebuild(self) -> None:
        """A change that cannot be applied: what was searched is made anew from the store."""
        self.failpoints.arm("index.apply", raising(RuntimeError, "armed by the test"))
        self.upsert([("id-0", 31, {})])
        self.quiet()
        assert self.failpoints.times == 0
        self.upsert([("id-0", 30, {})])

    @precondition(lambda self: not self.cleared)  # its rows may still be on their way out
    @rule()
    def crash(self) -> None:
        """The power goes: what is on disk now is all there is."""
        self.quiet()
        copy = self.directory.with_name(self.directory.name + "-crashed")
        shutil.copytree(self.directory, copy)
        self.catalogue.close()
        shutil.rmtree(self.directory)
        copy.rename(self.directory)
        self.open()
        self.quiet()

    @rule()
    def snapshot_and_restore(self) -> None:
        with tempfile.TemporaryDirectory() as elsewhere:
            file = Path(elsewhere) / "snapshot.tar"
            made = self.catalogue.snapshot(file)
            assert made.items >= len(self.model)  # rows of an emptied collection may still be among them
            self.catalogue.close()
            shutil.rmtree(self.directory)
            assert restore(file, self.directory) == made
        self.open()
        self.quiet()

    @rule(entries=st.lists(st.tuples(ids, seeds), min_size=1, max_size=20))
    def import_vectors(self, entries: list[tuple[str, int]]) -> None:
        done = self.collection.import_vectors(
            [id for id, _ in entries],
            np.stack([vector(seed) for _, seed in entries]),
            [{"price": seed % 6} for _, seed in entries],
            fingerprint=MODEL["fingerprint"],
        )
        last = dict(entries)
        assert done.created == len(last.keys() - self.model.keys())
        assert done.created + done.replaced + done.unchanged == len(last)
        for id, seed in last.items():
            self.model[id] = (vector(seed).astype(np.float64), {"price": seed % 6})

    @rule(
        seed=seeds,
        filter=filters,
        limit=st.integers(1, 15),
        offset=st.integers(0, 3),
        exclude=st.lists(ids, max_size=2),
    )
    def search(self, seed: int, filter: Any, limit: int, offset: int, exclude: list[str]) -> None:
        found = self.collection.search(vector(seed), limit=limit, offset=offset, filter=filter, exclude=exclude)
        query = vector(seed).astype(np.float64)
        passing = {id: float(v @ query) for id, (v, meta) in self.model.items() if filter.accepts(meta)}
        assert found.filtered_count == len(passing) == self.collection.count(filter)
        expected = sorted((s for id, s in passing.items() if id not in exclude), reverse=True)
        assert (found.best_score is None) == (not expected)
        if expected:
            assert abs(found.best_score - expected[0]) < 2e-4  # type: ignore[operator]
        np.testing.assert_allclose([m.score for m in found.matches], expected[offset : offset + limit], atol=2e-4)
        for match in found.matches:
            assert abs(passing[match.item.id] - match.score) < 2e-4
            assert match.item.metadata == self.model[match.item.id][1]
        assert len({m.item.id for m in found.matches}) == len(found.matches)

    @rule(seed=seeds, filter=filters)
    def search_groups(self, seed: int, filter: Any) -> None:
        found = self.collection.search(vector(seed), limit=15, filter=filter, group_by="price")
        query = vector(seed).astype(np.float64)
        best: dict[int, float] = {}
        for v, meta in self.model.values():
            if filter.accepts(meta) and "price" in meta:
                best[meta["price"]] = max(best.get(meta["price"], -2.0), float(v @ query))
        assert {m.group for m in found.matches} == set(best)
        for match in found.matches:
            assert abs(best[match.group] - match.score) < 2e-4  # type: ignore[index]

    @invariant()
    def same_items(self) -> None:
        page = self.collection.scan(limit=1000)
        assert {item.id: item.metadata for item in page.items} == {id: meta for id, (_, meta) in self.model.items()}


TestCollectionMachine = CollectionMachine.TestCase
TestCollectionMachine.settings = settings(
    max_examples=examples(30), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
