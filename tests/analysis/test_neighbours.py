"""Neighbours of every item: those that brute force finds, and after any change those that a first run would find."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.analysis import kept
from index.analysis.neighbours import Found, Neighbours, find
from index.errors import CacheUnusable
from index.open import open_catalogue
from index.types import Collection
from tests.harness.catalogues import MODEL, entry
from tests.harness.soak import examples


def lists(found: Found) -> dict[str, list[tuple[str, float]]]:
    names = dict(zip(found.neighbours.keys.tolist(), found.ids, strict=True))
    rows = zip(found.ids, found.neighbours.near.tolist(), found.neighbours.scores.tolist(), strict=True)
    return {
        id: [(names[key], score) for key, score in zip(near, row, strict=True) if key >= 0] for id, near, row in rows
    }


def check(collection: Collection, found: Found, limit: int) -> None:
    """Against every vector compared with every other."""
    page, vectors = collection.scan_vectors(limit=1000)
    ids = [item.id for item in page.items]
    scores = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(scores, -np.inf)
    told = lists(found)
    assert sorted(told) == ids
    for row, id in enumerate(ids):
        best = np.sort(scores[row])[::-1][: min(limit, len(ids) - 1)]
        near = told[id]
        assert id not in [other for other, _ in near] and len({other for other, _ in near}) == len(near)
        np.testing.assert_allclose([score for _, score in near], best, atol=4e-4)
        np.testing.assert_allclose([scores[row][ids.index(other)] for other, _ in near], best, atol=4e-4)


CHANGES = st.lists(
    st.tuples(st.sampled_from(["put", "delete"]), st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=12
)


@settings(max_examples=examples(40))
@given(count=st.integers(0, 25), limit=st.integers(1, 6), rounds=st.lists(CHANGES, min_size=1, max_size=3))
def test_after_any_change_every_list_is_what_brute_force_finds(
    count: int, limit: int, rounds: list[list[tuple[str, int, int]]]
) -> None:
    """New, replaced and removed items, equal ones among them, lists that are shorter than asked."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(open_catalogue(Path(folder))) as catalogue:
        collection, _ = catalogue.create("default", **MODEL)
        if count:
            collection.upsert([entry(f"i{n}", n) for n in range(count)], fingerprint="test-1")
        found = find(collection, limit)
        check(collection, found, limit)
        for changes in rounds:
            for action, number, seed in changes:
                if action == "put":
                    collection.upsert([entry(f"i{number}", seed)], fingerprint="test-1")
                else:
                    collection.delete([f"i{number}"])
            found = find(collection, limit, found.neighbours)
            check(collection, found, limit)
            assert find(collection, limit, found.neighbours).searched == 0


def test_only_what_a_change_reaches_is_searched_again(tmp_path: Path) -> None:
    with contextlib.closing(open_catalogue(tmp_path)) as catalogue:
        collection, _ = catalogue.create("default", **MODEL)
        collection.upsert([entry(f"i{n}", n) for n in range(400)], fingerprint="test-1")
        first = find(collection, 3)
        assert first.searched == 400
        collection.merge_metadata("i7", {"colour": "red"})
        assert find(collection, 3, first.neighbours).searched == 0
        collection.upsert([entry("new", 1000)], fingerprint="test-1")
        collection.delete(["i9"])
        again = find(collection, 3, first.neighbours)
        assert 1 <= again.searched < 100
        check(collection, again, 3)


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "foreign", "limit"])
def test_a_kept_file_is_believed_whole_or_not_at_all(tmp_path: Path, damage: str) -> None:
    path = kept.path_of(tmp_path, 2)
    found = Neighbours(np.array([1, 5]), np.array([[5, -1], [1, -1]]), np.array([[0.5, -np.inf]] * 2, np.float32))
    kept.write(path, found)
    read = kept.read(path, 2)
    for name in ("keys", "near", "scores"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))
    data = bytearray(path.read_bytes())
    at = data.index(found.scores.tobytes())
    data[at] ^= damage == "bit"
    broken = {"cut": bytes(data[:-30]), "empty": b"", "foreign": b"PK nonsense"}
    path.write_bytes(broken.get(damage, bytes(data)))
    with pytest.raises(CacheUnusable):
        kept.read(path, 3 if damage == "limit" else 2)
