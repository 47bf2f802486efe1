"""The import engine: what is judged, what is written, and what one bad picture or a broken target leaves behind."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.imports.engine import Action, ItemGone, Known, PictureRefused, Tally, joined, judge, run
from service.imports.sources.folder import Bad, Source, plan

metadata = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2) | st.text(max_size=2))


class Memory:
    """A target that keeps what it is given, and refuses bytes that begin with "bad"."""

    def __init__(self, *, lanes: int = 3, room: int = 10**9) -> None:
        self.lanes = lanes
        self.max_bytes = 1000
        self.items: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.embedded = 0
        self.finished = 0
        self.room = room

    async def known(self) -> dict[str, Known]:
        return {id: Known(hashlib.sha256(data).hexdigest(), kept) for id, (data, kept) in self.items.items()}

    async def put(self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any]) -> None:
        assert sha256 == hashlib.sha256(data).hexdigest()
        await asyncio.sleep(0)
        if data.startswith(b"bad"):
            raise PictureRefused("no picture")
        if self.embedded >= self.room:
            raise OSError("the disk is full")
        self.embedded += 1
        self.items[id] = (data, dict(metadata))

    async def describe(self, id: str, metadata: Mapping[str, Any]) -> None:
        if id not in self.items:
            raise ItemGone(id)
        data, kept = self.items[id]
        self.items[id] = (data, {**kept, **metadata})

    async def finish(self) -> None:
        self.finished += 1


def folder(root: Path, **contents: bytes) -> list[Source]:
    for name, content in contents.items():
        (root / f"{name}.jpg").write_bytes(content)
    return plan(root).sources


def imported(sources: list[Source], target: Memory, **options: Any) -> Tally:
    return asyncio.run(run(sources, target, **options))


def test_a_second_import_embeds_only_what_is_new_or_changed(tmp_path: Path) -> None:
    target = Memory()
    first = imported(folder(tmp_path, a=b"1", b=b"2", c=b"3"), target)
    assert (first.created, first.replaced, first.unchanged, first.bad) == (3, 0, 0, [])
    second = imported(folder(tmp_path, b=b"other", d=b"4"), target)
    assert (second.created, second.replaced, second.unchanged) == (1, 1, 2)
    assert target.embedded == 5
    assert {id: data for id, (data, _) in target.items.items()} == {"a": b"1", "b": b"other", "c": b"3", "d": b"4"}


def test_bad_files_are_told_by_name_and_the_rest_is_imported(tmp_path: Path) -> None:
    target = Memory()
    sources = folder(tmp_path, a=b"1", b=b"bad", c=b"x" * 1001, d=b"4")
    sources.append(Source("gone", str(tmp_path / "gone.jpg"), {"path": "gone.jpg"}))
    tally = imported(sources, target, bad=[Bad("z.png", "clashes")])
    assert sorted(target.items) == ["a", "d"]
    assert [row.path for row in tally.bad] == ["b.jpg", "c.jpg", "gone.jpg", "z.png"]
    assert [row.reason for row in tally.bad] == [
        "no picture",
        "larger than 0.000954 MiB (LOOKALIKE_MAX_UPLOAD_BYTES)",
        "cannot be read: No such file or directory",
        "clashes",
    ]
    assert tally.total == tally.handled == 6
    assert not tally.interrupted


def test_what_a_person_added_to_the_metadata_survives_and_costs_nothing(tmp_path: Path) -> None:
    target = Memory()
    sources = folder(tmp_path, a=b"1", b=b"2")
    imported(sources, target)
    target.items["a"][1]["price"] = 3
    assert imported(sources, target).unchanged == 2
    folder(tmp_path, a=b"new")
    imported(sources, target)
    assert target.items["a"] == (b"new", {"path": "a.jpg", "folder": "", "price": 3})


def test_metadata_alone_is_corrected_without_an_embedding(tmp_path: Path) -> None:
    target = Memory()
    target.items["a"] = (b"1", {"own": True})
    tally = imported(folder(tmp_path, a=b"1"), target)
    assert (tally.replaced, target.embedded) == (1, 0)
    assert target.items["a"][1] == {"own": True, "path": "a.jpg", "folder": ""}


def test_an_item_deleted_meanwhile_is_embedded_again(tmp_path: Path) -> None:
    class Deleting(Memory):
        async def known(self) -> dict[str, Known]:
            stood = await super().known()
            self.items.clear()
            return stood

    target = Deleting()
    target.items["a"] = (b"1", {"own": True})
    assert imported(folder(tmp_path, a=b"1"), target).created == 1
    assert target.items["a"] == (b"1", {"path": "a.jpg", "folder": ""})


@pytest.mark.parametrize(
    ("stored", "wanted"), [(True, 1), (0, False), ([1], [True]), ({"a": 1}, {"a": True}), (1, "1")]
)
def test_values_that_only_python_takes_for_equal_are_changes(stored: Any, wanted: Any) -> None:
    assert judge(Known("s", {"v": stored}), "s", {"v": wanted}) is Action.DESCRIBE


def test_a_stopped_import_keeps_what_is_done_and_the_next_run_does_the_rest(tmp_path: Path) -> None:
    target = Memory(lanes=1)
    sources = folder(tmp_path, **{f"p{n}": b"%d" % n for n in range(10)})

    async def stopped() -> Tally:
        stop = asyncio.Event()
        return await run(sources, target, on_progress=lambda tally: stop.set() if tally.done == 4 else None, stop=stop)

    tally = asyncio.run(stopped())
    assert tally.interrupted
    assert len(target.items) == tally.done == 4
    rest = imported(sources, target)
    assert (rest.created, rest.unchanged, rest.interrupted) == (6, 4, False)


def test_a_target_that_fails_ends_the_import_and_what_it_took_is_finished(tmp_path: Path) -> None:
    target = Memory(room=3)
    with pytest.raises(OSError, match="disk is full"):
        imported(folder(tmp_path, **{f"p{n}": b"%d" % n for n in range(10)}), target)
    assert len(target.items) == 3
    assert target.finished == 1


def test_an_empty_folder_is_an_import_of_nothing(tmp_path: Path) -> None:
    tally = imported(folder(tmp_path), Memory())
    assert tally.as_json()["total"] == 0
    assert not tally.interrupted


def test_the_summary_a_program_reads_adds_up(tmp_path: Path) -> None:
    summary = imported(folder(tmp_path, a=b"1", b=b"bad"), Memory()).as_json()
    assert summary["total"] == summary["done"] + summary["unchanged"] + summary["failed"]
    assert summary["errors"] == [{"path": "b.jpg", "reason": "no picture"}]


@given(metadata, metadata, st.sampled_from(["same", "other"]))
def test_a_picture_is_embedded_exactly_when_its_bytes_are_new(
    stored: dict[str, Any], wanted: dict[str, Any], sha256: str
) -> None:
    action = judge(Known("same", stored), sha256, wanted)
    assert (action is Action.EMBED) == (sha256 == "other")
    if action is Action.KEEP:
        assert joined(Known("same", stored), wanted) == stored
    assert judge(None, sha256, wanted) is Action.EMBED
    assert judge(Known(None, stored), sha256, wanted) is Action.EMBED


@given(metadata, metadata)
def test_after_an_import_the_same_picture_is_kept(stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert judge(Known("s", joined(Known("s", stored), wanted)), "s", wanted) is Action.KEEP
