"""Replacing a collection by another: at once, whole, and the replaced one stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from index.errors import CollectionNotFound, InvalidId, ModelMismatch
from index.items import Entry
from index.open import open_catalogue
from index.types import Catalogue, Collection
from tests.harness.catalogues import DIM, MODEL, Model, entry, vector

NEWER = Model(model="newer", fingerprint="newer-1", dim=DIM // 2)


def newer(id: str, seed: int) -> Entry:
    return Entry(id, vector(seed, DIM // 2), {"n": seed})


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    """`shop` with two items of the one model, `next` with the same ids under the other."""
    opened = open_catalogue(tmp_path / "data")
    shop, _ = opened.create("shop", **MODEL)
    shop.upsert([entry("a", 1, b"one"), entry("b", 2, b"two")], fingerprint=shop.fingerprint)
    shop.set_score_threshold(0.7)
    following, _ = opened.create("next", **NEWER)
    following.upsert([newer("a", 11), newer("b", 12)], fingerprint=following.fingerprint)
    yield opened
    opened.close()


def nearest(collection: Collection, seed: int) -> str:
    return collection.search(vector(seed, collection.dim), limit=1).matches[0].item.id


def test_the_name_stands_for_the_other_at_once(catalogue: Catalogue) -> None:
    """Who holds the collection already finds the new vectors under its name; the old ones answer under theirs."""
    shop = catalogue.get("shop")
    created = shop.info().created_at
    assert catalogue.replace("shop", "next", kept="before", sequence=shop.sequence)
    assert catalogue.names() == ["before", "shop"]
    for each in (shop, catalogue.get("shop")):
        assert (each.name, each.model, each.dim) == ("shop", "newer", DIM // 2)
        assert nearest(each, 12) == "b"
        assert each.score_threshold is None
        assert each.info().created_at == created
    before = catalogue.get("before")
    assert (before.name, before.model, before.score_threshold) == ("before", "test", 0.7)
    assert nearest(before, 2) == "b"
    assert before.thumbnail("a") == b"thumbone"
    with pytest.raises(CollectionNotFound):
        catalogue.get("next")


def test_both_go_on_and_survive_a_restart(catalogue: Catalogue, tmp_path: Path) -> None:
    """Writes after it reach the one they are meant for, in this process and in the next."""
    shop = catalogue.get("shop")
    assert catalogue.replace("shop", "next", kept="before", sequence=shop.sequence)
    before = catalogue.get("before")
    shop.upsert([newer("c", 13)], fingerprint="newer-1")
    before.upsert([entry("d", 4)], fingerprint="test-1")
    with pytest.raises(ModelMismatch):
        shop.upsert([entry("e", 5)], fingerprint="test-1")
    assert (nearest(shop, 13), nearest(before, 4)) == ("c", "d")
    catalogue.close()
    again = open_catalogue(tmp_path / "data")
    try:
        assert list(again.verify()) == []
        assert (nearest(again.get("shop"), 13), nearest(again.get("before"), 4)) == ("c", "d")
        assert (again.get("shop").count(), again.get("before").count()) == (3, 3)
        again.drop("before")
        assert again.names() == ["shop"]
        assert again.get("shop").get("a").metadata == {"n": 11}
    finally:
        again.close()


@pytest.mark.parametrize("change", ["item", "metadata", "removal"])
def test_a_change_in_between_refuses_it(catalogue: Catalogue, change: str) -> None:
    """What was written after the copy was compared is not lost: nothing is replaced, and the caller looks again."""
    shop = catalogue.get("shop")
    sequence = shop.sequence
    if change == "item":
        shop.upsert([entry("c", 3)], fingerprint="test-1")
    elif change == "metadata":
        shop.merge_metadata("a", {"x": 1})
    else:
        shop.delete(["a"])
    assert not catalogue.replace("shop", "next", kept="before", sequence=sequence)
    assert catalogue.names() == ["next", "shop"]
    assert shop.model == "test"
    assert catalogue.replace("shop", "next", kept="before", sequence=shop.sequence)


@pytest.mark.parametrize(
    ("name", "by", "kept", "error"),
    [
        ("absent", "next", "before", CollectionNotFound),
        ("shop", "absent", "before", CollectionNotFound),
        ("shop", "next", "third", InvalidId),
        ("shop", "next", "next", InvalidId),
        ("shop", "next", "shop", InvalidId),
        ("shop", "shop", "before", InvalidId),
        ("shop", "next", "No Name", InvalidId),
    ],
)
def test_what_does_not_fit_changes_nothing(
    catalogue: Catalogue, name: str, by: str, kept: str, error: type[Exception]
) -> None:
    catalogue.create("third", **MODEL)
    with pytest.raises(error):
        catalogue.replace(name, by, kept=kept, sequence=catalogue.get("shop").sequence)
    assert catalogue.names() == ["next", "shop", "third"]
    assert catalogue.get("shop").model == "test"


def test_searches_beside_it_see_one_or_the_other(catalogue: Catalogue) -> None:
    """No search fails or mixes the two, however often the names change hands."""
    shop = catalogue.get("shop")
    wrong: list[BaseException] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            dim = shop.dim
            try:
                found = shop.search(vector(1 if dim == DIM else 11, dim), limit=1)
            except Exception as error:  # noqa: BLE001 - a vector of the other length is refused as such
                if type(error).__name__ != "InvalidVector":
                    wrong.append(error)
            else:
                if [match.item.id for match in found.matches] != ["a"]:
                    wrong.append(AssertionError(found))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        assert catalogue.replace("shop", "next", kept="before", sequence=shop.sequence)
        assert catalogue.replace("shop", "before", kept="next", sequence=shop.sequence)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_item_keeps_its_age(catalogue: Catalogue) -> None:
    """An entry may say when its item was made; an item that is there already is not made younger or older by it."""
    shop = catalogue.get("shop")
    (written,) = shop.upsert([replace(entry("old", 9), created_at=1234.5)], fingerprint="test-1")
    assert written.item.created_at == shop.get("old").created_at == 1234.5
    shop.upsert([replace(entry("old", 10), created_at=99.0)], fingerprint="test-1")
    assert shop.get("old").created_at == 1234.5


def test_an_item_that_is_replaced_is_there_for_every_reader(tmp_path: Path) -> None:
    catalogue = open_catalogue(tmp_path)
    collection, _ = catalogue.create("default", **MODEL)
    print_of = collection.fingerprint
    collection.upsert([entry("a", 1, b"0")], fingerprint=print_of)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(
            lambda: [collection.upsert([entry("a", n, b"%d" % n)], fingerprint=print_of) for n in range(300)]
        )
        while not writing.done():
            assert collection.get("a").id == "a"  # raises where it is missed
        writing.result()
    catalogue.close()
