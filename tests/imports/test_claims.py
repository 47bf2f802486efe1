"""Which picture gets which id: refused ones none, and nobody loses the one it has."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from service.imports.sources.folder import plan
from service.imports.sources.names import earlier_id_of
from tests.harness.targets import Memory, described, import_of, written


@pytest.mark.parametrize("refused", ["IMG_1.HEIC", "IMG_1.GIF", "IMG_1.AVIF", "IMG_1.BMP"])
def test_a_refused_file_takes_no_id_from_a_good_one(tmp_path: Path, refused: str) -> None:
    for lanes in (1, 3):
        target = Memory(lanes=lanes)
        tally = import_of(written(tmp_path, {refused: b"bad", "IMG_1.JPG": b"good"}), target)
        assert (tally.created, [row.path for row in tally.bad]) == (1, [refused])
        assert target.items["IMG_1"][0] == b"good"


def test_an_unreadable_or_too_large_file_takes_no_id_either(tmp_path: Path) -> None:
    target = Memory()
    tally = import_of(written(tmp_path, {"x.jpg": b"x" * 1001, "x.png": b"good"}), target)
    assert (tally.created, [row.path for row in tally.bad]) == (1, ["x.jpg"])


def test_of_two_accepted_pictures_with_one_id_the_second_is_bad_and_says_why(tmp_path: Path) -> None:
    planned = written(tmp_path, {"c.jpg": b"1", "c.png": b"2", "d/e.jpg": b"3", "d:e.jpg": b"4"})
    for lanes in (1, 2, 5):
        target = Memory(lanes=lanes)
        tally = import_of(planned, target)
        assert [(row.path, row.reason) for row in tally.bad] == [
            ("c.png", "would get the id c, which c.jpg already has: rename one of them"),
            ("d:e.jpg", "would get the id d:e, which d/e.jpg already has: rename one of them"),
        ]
        assert {id: data for id, (data, _) in target.items.items()} == {"c": b"1", "d:e": b"3"}
        again = import_of(planned, target)
        assert (again.unchanged, again.done, len(again.bad)) == (2, 0, 2)


def test_a_picture_keeps_the_id_it_has_when_a_rival_becomes_acceptable(tmp_path: Path) -> None:
    target = Memory(lanes=2)
    import_of(written(tmp_path, {"IMG_1.HEIC": b"bad", "IMG_1.JPG": b"jpg"}), target)
    # As after HEIC became readable: the rival comes first, and would be accepted.
    tally = import_of(written(tmp_path, {"IMG_1.HEIC": b"heic"}), target)
    assert (tally.unchanged, [row.path for row in tally.bad]) == (1, ["IMG_1.HEIC"])
    assert target.items["IMG_1"][0] == b"jpg"
    # Renamed away, the rival may have it.
    (tmp_path / "IMG_1.JPG").unlink()
    assert import_of(plan(tmp_path), target).replaced == 1
    assert target.items["IMG_1"][0] == b"heic"


SCRIPTS = [["кот.jpg", "дом.jpg"], ["猫.jpg", "犬.jpg", "鳥.jpg"], ["🐈.jpg", "🐕.jpg"], ["קט.jpg", "גד.jpg"]]


@pytest.mark.parametrize("names", SCRIPTS, ids=lambda names: names[0])
def test_names_in_any_script_stay_apart_and_later_files_change_no_id(tmp_path: Path, names: list[str]) -> None:
    target = Memory()
    first, *later = sorted(names, reverse=True)
    assert import_of(written(tmp_path, {first: first.encode()}), target).created == 1
    (id,) = target.items
    tally = import_of(written(tmp_path, {name: name.encode() for name in later}), target)
    assert (tally.created, tally.unchanged, tally.bad) == (len(later), 1, [])
    assert target.items[id][0] == first.encode()


@pytest.mark.parametrize("names", SCRIPTS, ids=lambda names: names[0])
def test_an_item_of_the_earlier_rule_for_ids_keeps_its_id(tmp_path: Path, names: list[str]) -> None:
    target = Memory()
    old = earlier_id_of(names[0])
    target.items[old] = (b"old", {"path": names[0], "folder": "", "price": 1})
    tally = import_of(written(tmp_path, dict.fromkeys(names, b"new")), target)
    assert (tally.replaced, tally.created, tally.bad) == (1, len(names) - 1, [])
    assert target.items[old] == (b"new", {**described(names[0], tmp_path), "price": 1})
    assert import_of(plan(tmp_path), target).unchanged == len(names)


def test_an_item_under_a_name_keeps_the_id_somebody_chose(tmp_path: Path) -> None:
    target = Memory()
    target.items["cat"] = (b"1", {"path": unicodedata.normalize("NFD", "Kätzchen.jpg"), "folder": ""})
    target.items["other-root"] = (b"1", {"path": "größe.jpg", "folder": "", "root": "elsewhere-00000000"})
    tally = import_of(written(tmp_path, {"Kätzchen.jpg": b"1", "größe.jpg": b"1"}), target)
    assert (tally.created, tally.replaced) == (1, 1)
    assert "cat" in target.items
    assert len(target.items) == 3


def test_plain_names_are_never_searched_for(tmp_path: Path) -> None:
    target = Memory()
    import_of(written(tmp_path, {f"folder/IMG_{n}.jpg": b"%d" % n for n in range(40)}), target)
    assert target.searched == []


def test_names_that_are_no_utf8_and_look_the_same_keep_their_items(tmp_path: Path) -> None:
    target = Memory()
    target.items["caf_"] = (b"e9", {"path": "caf\ufffd.jpg", "folder": ""})
    tally = import_of(
        written(tmp_path, {os.fsdecode(b"caf\xe8.jpg"): b"e8", os.fsdecode(b"caf\xe9.jpg"): b"e9"}), target
    )
    assert (tally.created, tally.unchanged, tally.bad) == (1, 1, [])
    assert target.items["caf_"][0] == b"e9"


def test_a_file_with_an_id_that_another_ones_item_has_from_before_does_not_take_it(tmp_path: Path) -> None:
    target = Memory()
    target.items["___"] = (b"cat", {"path": "кот.jpg", "folder": ""})
    tally = import_of(written(tmp_path, {"___.jpg": b"underscores", "кот.jpg": b"cat"}), target)
    assert (tally.unchanged, [row.path for row in tally.bad]) == (1, ["___.jpg"])
    assert target.items["___"][0] == b"cat"
