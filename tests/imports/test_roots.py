"""An import does not replace what another root brought, unless asked to; a folder that was moved is the same root."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from service.imports.roots import RootConflict, check
from service.imports.sources.folder import Plan, plan
from service.imports.sources.names import root_of
from tests.harness.targets import Memory, import_of, written


def conflict(planned: Plan, target: Memory) -> str:
    """What refuses this import; nothing where it may go on."""
    try:
        asyncio.run(check(planned.sources(), target))
    except RootConflict as error:
        return str(error)
    return ""


CARD_1 = {"1.jpg": b"1", "2.jpg": b"2", "sub/3.jpg": b"3"}
CARD_2 = {"1.jpg": b"one", "2.jpg": b"two", "4.jpg": b"four"}


def test_pictures_of_another_root_are_not_replaced_unasked(tmp_path: Path) -> None:
    target = Memory()
    assert conflict(written(tmp_path / "A", CARD_1), target) == ""
    import_of(plan(tmp_path / "A"), target)
    says = conflict(written(tmp_path / "B", CARD_2), target)
    assert says.startswith("2 pictures would replace what another folder brought")
    assert root_of(tmp_path / "A") in says
    assert conflict(plan(tmp_path / "A"), target) == ""


def test_a_prefix_gives_ids_of_their_own(tmp_path: Path) -> None:
    target = Memory()
    import_of(written(tmp_path / "A", CARD_1), target)
    written(tmp_path / "B", CARD_2)
    planned = plan(tmp_path / "B", prefix="b")
    assert conflict(planned, target) == ""
    assert import_of(planned, target).created == 3
    assert {"1", "b:1"} <= target.items.keys()


def test_a_root_that_was_moved_is_known_by_its_pictures(tmp_path: Path) -> None:
    target = Memory()
    import_of(written(tmp_path / "A", CARD_1), target)
    (tmp_path / "A").rename(tmp_path / "moved")
    assert import_of(plan(tmp_path / "moved"), target).unchanged == 3
    changed = written(tmp_path / "moved", {"1.jpg": b"new"})
    assert conflict(changed, target) == ""
    assert import_of(changed, target).replaced == 1
    assert target.items["1"][1]["root"] == root_of(tmp_path / "moved")


@pytest.mark.parametrize("link", [False, True])
def test_a_root_is_the_same_however_it_is_named(tmp_path: Path, link: bool) -> None:
    target = Memory()
    import_of(written(tmp_path / "A", CARD_1), target)
    written(tmp_path / "A", {"1.jpg": b"new", "2.jpg": b"new"})
    other = tmp_path / "A/../A"
    if link:
        other = tmp_path / "link"
        other.symlink_to(tmp_path / "A")
    assert conflict(plan(other), target) == ""


def test_items_without_a_root_count_as_the_same_ones(tmp_path: Path) -> None:
    target = Memory()
    target.items = {"1": (b"x", {}), "2": (b"y", {"path": "2.jpg"})}
    assert conflict(written(tmp_path, CARD_2), target) == ""
    assert import_of(plan(tmp_path), target).replaced == 2


def test_the_label_of_a_root_does_not_give_its_path_away(tmp_path: Path) -> None:
    assert re.fullmatch(r"photos-[0-9a-f]{8}", root_of(tmp_path / "secret/photos"))
    assert root_of(tmp_path / "a/photos") != root_of(tmp_path / "b/photos")
