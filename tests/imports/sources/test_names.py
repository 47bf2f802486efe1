"""Ids of files: valid, the same on every run, and apart wherever the names are."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.limits import MAX_ID
from service.imports.sources.names import earlier_id_of, id_of

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60)
paths = st.lists(names, min_size=1, max_size=6).map("/".join)


def hashed(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:8]


@pytest.mark.parametrize(
    ("path", "id"),
    [
        ("apple.jpg", "apple"),
        ("a/b/c.d.png", "a:b:c.d"),
        ("mail@home_2-x.jpg", "mail@home_2-x"),
        ("no-extension", "no-extension"),
        ("SHOUT.JPG", "SHOUT"),
    ],
)
def test_an_id_is_the_path_without_extension(path: str, id: str) -> None:
    assert id_of(path) == earlier_id_of(path) == id


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("fruit/red apple.JPEG", "fruit:red_apple"),
        ("grün/äpfel (1).webp", "gr_n:_pfel__1_"),
        ("кот.jpg", "___"),
        ("猫.png", "_"),
        ("🐈/🐈‍⬛.jpg", "_:___"),
        ("قطة.webp", "___"),
        ("a#1.jpg", "a_1"),
        ("a%20b.jpg", "a_20b"),
        ("..", "__"),
    ],
)
def test_where_characters_were_replaced_the_paths_hash_follows(path: str, start: str) -> None:
    assert id_of(path) == f"{start}-{hashed(path)}"
    assert earlier_id_of(path) == start


@given(paths, st.sampled_from(["", "p", "a:b"]))
def test_every_path_gets_a_valid_id(path: str, prefix: str) -> None:
    for id in (id_of(path, prefix), earlier_id_of(path)):
        assert re.fullmatch(r"[A-Za-z0-9._:@-]{1,128}", id)
        assert id not in (".", "..")
    assert id_of(path, prefix).startswith(f"{prefix}:" if prefix else "")


@given(st.lists(paths, min_size=2, max_size=20, unique_by=lambda path: unicodedata.normalize("NFC", path)))
def test_only_paths_that_differ_in_their_extension_or_in_a_colon_share_an_id(found: list[str]) -> None:
    by_id: dict[str, list[str]] = {}
    for path in found:
        by_id.setdefault(id_of(path), []).append(path)
    for same in by_id.values():
        assert len({os.path.splitext(path)[0].replace("/", ":") for path in same}) == 1  # noqa: PTH122


def test_long_paths_stay_apart_and_within_the_limit() -> None:
    long = "folder/" * 30
    first, second = id_of(long + "a.jpg"), id_of(long + "b.jpg")
    assert first != second
    assert len(first) == len(second) == MAX_ID
    assert first.startswith("folder:folder:")
    assert first == earlier_id_of(long + "a.jpg")
    foreign = id_of("ö/" * 100 + "a.jpg"), id_of("ö/" * 100 + "b.jpg"), id_of("x" * 120 + "ö.jpg", "prefix")
    assert len(set(foreign)) == 3
    assert {len(id) for id in foreign} == {MAX_ID}


@pytest.mark.parametrize("name", ["caf\u00e9.jpg", "Å/Ångström.png", "が.jpg", "한글.webp"])
def test_a_name_gives_one_id_however_the_system_spells_its_accents(name: str) -> None:
    assert len({id_of(unicodedata.normalize(form, name)) for form in ("NFC", "NFD")}) == 1


def test_names_that_are_no_utf8_keep_apart() -> None:
    spelt = [os.fsdecode(name) for name in (b"caf\xe9.jpg", b"caf\xe8.jpg", b"caf\xff.jpg")]
    assert len({id_of(name) for name in spelt}) == 3
    assert {earlier_id_of(name) for name in spelt} == {"caf_"}


def test_a_prefix_goes_before_the_path() -> None:
    assert id_of("a/b.jpg", "card-2") == "card-2:a:b"
    assert id_of("кот.jpg", "card-2") == f"card-2:___-{hashed('кот.jpg')}"
