"""The import engine: what is judged, what is written, and what one bad picture or a broken target leaves behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.imports.engine import run
from service.imports.reading.reader import CHUNK_PICTURES
from service.imports.rule import Action, Stored, upsert
from service.imports.sources.folder import plan, read_file
from service.imports.sources.source import Bad, Source, Unreadable
from service.imports.tally import Tally
from tests.harness.targets import Memory, described, imported

metadata = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2) | st.text(max_size=2))


def folder(root: Path, **contents: bytes) -> list[Source]:
    for name, content in contents.items():
        (root / f"{name}.jpg").write_bytes(content)
    return list(plan(root).sources())


def encoded(text: str, limit: int) -> bytes:
    return text.encode()


def bytes_of(number: int, limit: int) -> bytes:
    return b"%d" % number


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
    sources.append(Source("gone", {}, partial(read_file, str(tmp_path / "gone.jpg")), "gone.jpg"))
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
    assert target.items["a"] == (b"new", {**described("a.jpg", tmp_path), "price": 3})


def test_metadata_alone_is_corrected_without_an_embedding(tmp_path: Path) -> None:
    target = Memory()
    target.items["a"] = (b"1", {"own": True})
    tally = imported(folder(tmp_path, a=b"1"), target)
    assert (tally.replaced, target.embedded) == (1, 0)
    assert target.items["a"][1] == {"own": True, "path": "a.jpg", "folder": ""}


def test_an_item_deleted_meanwhile_is_embedded_again(tmp_path: Path) -> None:
    class Deleting(Memory):
        async def known(self, ids: Sequence[str]) -> Mapping[str, Stored]:
            stored = await super().known(ids)
            self.items.clear()
            return stored

    target = Deleting()
    target.items["a"] = (b"1", {"own": True})
    assert imported(folder(tmp_path, a=b"1"), target).created == 1
    assert target.items["a"] == (b"1", described("a.jpg", tmp_path))


@pytest.mark.parametrize(
    ("stored", "wanted"), [(True, 1), (0, False), ([1], [True]), ({"a": 1}, {"a": True}), (1, "1")]
)
def test_values_that_only_python_takes_for_equal_are_changes(stored: Any, wanted: Any) -> None:
    for merge in (False, True):
        assert upsert(Stored("s", {"v": stored}), "s", {"v": wanted}, merge=merge).action is Action.DESCRIBE


def test_a_stopped_import_keeps_what_is_done_and_the_next_run_does_the_rest(tmp_path: Path) -> None:
    target = Memory(lanes=1)
    sources = folder(tmp_path, **{f"p{n}": b"%d" % n for n in range(10)})

    async def stopped() -> Tally:
        stop = asyncio.Event()

        def progress(tally: Tally) -> None:
            if tally.done == 4:
                stop.set()

        return await run(sources, target, total=10, on_progress=progress, stop=stop)

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
    assert summary["errors"] == [
        {"row": None, "id": "b", "path": "b.jpg", "slug": "image-undecodable", "reason": "no picture"}
    ]


def test_what_is_stored_is_asked_for_by_the_chunk_and_never_as_a_whole(tmp_path: Path) -> None:
    target = Memory()
    target.items = {f"other{n}": (b"x", {}) for n in range(1000)}
    sources = folder(tmp_path, **{f"p{n:03}": b"%d" % n for n in range(50)})
    assert imported(sources, target).created == 50
    assert max(map(len, target.asked)) <= CHUNK_PICTURES
    assert [id for ids in target.asked for id in ids] == [source.id for source in sources]


def test_sources_are_taken_only_a_little_ahead_of_what_is_written() -> None:
    taken = 0
    ahead: list[int] = []

    def endless() -> Iterator[Source]:
        nonlocal taken
        for number in range(2000):
            taken += 1
            yield Source(f"p{number}", {}, partial(bytes_of, number), f"p{number}")

    def progress(tally: Tally) -> None:
        ahead.append(taken - tally.handled)

    assert asyncio.run(run(endless(), Memory(), total=2000, on_progress=progress)).created == 2000
    assert max(ahead) <= 3 * CHUNK_PICTURES


@given(metadata, metadata, st.sampled_from(["same", "other"]), st.booleans())
def test_a_picture_is_embedded_exactly_when_its_bytes_are_new(
    stored: dict[str, Any], wanted: dict[str, Any], sha256: str, merge: bool
) -> None:
    write = upsert(Stored("same", stored), sha256, wanted, merge=merge)
    assert (write.action is Action.EMBED) == (sha256 == "other")
    assert write.metadata == ({**stored, **wanted} if merge else wanted)
    if write.action is Action.KEEP:
        assert write.metadata == stored
    assert upsert(None, sha256, wanted, merge=merge).action is Action.EMBED
    assert upsert(Stored(None, stored), sha256, wanted, merge=merge).action is Action.EMBED


@given(metadata, metadata, st.booleans())
def test_what_was_written_is_kept_the_next_time(stored: dict[str, Any], wanted: dict[str, Any], merge: bool) -> None:
    written = upsert(Stored("s", stored), "s", wanted, merge=merge).metadata
    assert upsert(Stored("s", written), "s", wanted, merge=merge).action is Action.KEEP


def test_what_an_earlier_run_has_written_counts_as_written() -> None:
    """A run that was cut off and goes on has the counts of one that was not; nothing is embedded twice."""
    target = Memory()
    target.dates = {"a": (50.0, 120.0), "b": (110.0, 110.0), "c": (10.0, 20.0)}
    sources = [Source(id, {}, partial(encoded, id), id) for id in "abcd"]
    for id in "abc":
        target.items[id] = (id.encode(), {})
    tally = imported(sources, target, since=100.0)
    assert (tally.created, tally.replaced, tally.unchanged, target.embedded) == (2, 1, 1, 1)


def test_where_the_source_is_the_whole_truth_other_metadata_goes() -> None:
    """Merged, what only the item has stays; otherwise it has what the source says, and the root that brought it."""
    source = Source("a", {"price": 2}, lambda _: b"a", "a")
    for merge, kept in ((True, {"price": 2, "sale": True}), (False, {"price": 2})):
        target = Memory()
        target.items["a"] = (b"a", {"price": 1, "sale": True})
        assert imported([source], target, merge=merge).replaced == 1
        assert target.items["a"][1] == kept
        assert imported([source], target, merge=merge).unchanged == 1
    rooted = replace(source, root="photos-1")
    assert imported([rooted], target, merge=False).replaced == 1
    assert target.items["a"][1] == {"price": 2, "root": "photos-1"}
    assert imported([rooted], target, merge=False).unchanged == 1


def test_bad_pictures_may_be_told_instead_of_kept() -> None:
    """An import of a million bad rows takes no more memory than one of none; all are counted."""
    told: list[Bad] = []
    sources = [Source(id, {}, lambda _: b"bad", id) for id in "abc"]
    tally = asyncio.run(run(sources, Memory(), total=3, bad=[Bad("x", "is a link")], on_bad=told.append))
    assert (tally.failed, tally.bad, tally.handled) == (4, [], 4)
    assert told[0].path == "x" and {row.path for row in told} == {"a", "b", "c", "x"}


def test_a_device_or_a_pipe_is_no_picture(tmp_path: Path) -> None:
    """A device has no end, and a pipe waits for a writer: neither may hold up an import, or take all memory."""
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in ("/dev/zero", str(tmp_path / "pipe.jpg")):
        with pytest.raises(Unreadable, match="device or a pipe"):
            read_file(path, 1_000)
    with pytest.raises(Unreadable, match="cannot be read"):
        read_file(str(tmp_path), 1_000)
    (tmp_path / "a.jpg").write_bytes(b"x" * 1_000)
    assert read_file(str(tmp_path / "a.jpg"), 1_000) == b"x" * 1_000
    with pytest.raises(Unreadable, match="larger than"):
        read_file(str(tmp_path / "a.jpg"), 999)
