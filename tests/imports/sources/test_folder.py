"""Planning an import of a folder: the same ids on every run, clashes named, links and odd files harmless."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.imports.sources.folder import looks_like_picture, plan
from service.imports.sources.source import SourceError

JPEG = b"\xff\xd8\xff\xe0" + bytes(20)


def write(root: Path, *paths: str, content: bytes = JPEG) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def ids(root: Path) -> list[str]:
    return [source.id for source in plan(root).sources()]


def test_of_files_with_one_id_all_are_planned_and_know_of_each_other(tmp_path: Path) -> None:
    write(tmp_path, "c.jpg", "c.png", "d/e.jpg", "d:e.jpg", "f.jpg")
    found = {source.name: source.rivals for source in plan(tmp_path).sources()}
    assert found["c.jpg"] == found["c.png"] == {"c.jpg", "c.png"}
    assert found["d/e.jpg"] == found["d:e.jpg"] == {"d/e.jpg", "d:e.jpg"}
    assert found["f.jpg"] == frozenset()


def test_a_file_whose_id_was_another_ones_before_the_rule_changed_knows_of_it(tmp_path: Path) -> None:
    write(tmp_path, "___.jpg", "кот.jpg", "дом.jpg", "x.jpg")
    found = {source.id: source.rivals for source in plan(tmp_path).sources()}
    assert found["___"] == {"кот.jpg", "дом.jpg"}
    assert found["x"] == frozenset()


def test_metadata_says_where_a_picture_was(tmp_path: Path) -> None:
    write(tmp_path, "top.jpg", "a/b/deep.jpg")
    assert [source.metadata for source in plan(tmp_path).sources()] == [
        {"path": "a/b/deep.jpg", "folder": "a/b"},
        {"path": "top.jpg", "folder": ""},
    ]


def test_pictures_are_found_by_name_or_by_content_and_the_rest_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "named-jpeg-but-text.JPG", content=b"text")
    write(tmp_path, "jpeg-named-dat.dat", "jpeg-without-extension")
    write(tmp_path, "notes.txt", "table.csv", "short", content=b"no")
    write(tmp_path, ".hidden.jpg", ".thumbnails/x.jpg", "._a.jpg")
    planned = plan(tmp_path)
    assert [source.id for source in planned.sources()] == [
        "a", "jpeg-named-dat", "jpeg-without-extension", "named-jpeg-but-text",
    ]  # fmt: skip
    assert (planned.ignored, planned.skipped, planned.bad) == (3, 3, [])


def test_links_that_lead_in_circles_end_and_real_names_win(tmp_path: Path) -> None:
    write(tmp_path, "real/x.jpg")
    (tmp_path / "real/up").symlink_to(tmp_path)
    (tmp_path / "a-link").symlink_to(tmp_path / "real")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert ids(tmp_path) == ["real:x"]


def test_a_link_to_a_folder_elsewhere_is_followed_once(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/x.jpg", "root/y.jpg")
    (tmp_path / "root/one").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/two").symlink_to(tmp_path / "elsewhere")
    assert ids(tmp_path / "root") == ["one:x", "y"]


def test_a_catalogue_inside_the_folder_is_not_imported_into_itself(tmp_path: Path) -> None:
    write(tmp_path, "photo.jpg", "data/originals/ab/abcdef", "sub/data/kept.jpg")
    planned = plan(tmp_path, leave_out=(tmp_path / "data", tmp_path / "nowhere"))
    assert [source.id for source in planned.sources()] == ["photo", "sub:data:kept"]


def test_a_broken_link_named_as_a_picture_is_bad_and_a_pipe_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    planned = plan(tmp_path)
    assert planned.paths == []
    assert [row.path for row in planned.bad] == ["gone.jpg"]
    assert planned.ignored == 1


def test_a_name_that_is_no_utf8_can_still_be_imported(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(JPEG)
    (source,) = plan(tmp_path).sources()
    assert (source.id[:5], source.metadata["path"]) == ("caf_-", "caf\ufffd.jpg")
    assert source.read(1000) == JPEG


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_bad_and_the_rest_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "shut/x.jpg", "open/y.jpg")
    (tmp_path / "shut").chmod(0)
    planned = plan(tmp_path)
    (tmp_path / "shut").chmod(0o700)
    assert [source.id for source in planned.sources()] == ["open:y"]
    assert [row.path for row in planned.bad] == ["shut"]


def test_a_source_that_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        plan(tmp_path / "nowhere")
    write(tmp_path, "file.jpg")
    with pytest.raises(SourceError, match="is not a folder"):
        plan(tmp_path / "file.jpg")


@pytest.mark.parametrize("head", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"GIF89a", b"<svg", b"%PDF-1.7"])
def test_other_contents_are_no_pictures(head: bytes) -> None:
    assert not looks_like_picture(head)


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "__MACOSX",
        "lost+found", "LOST.DIR", ".Trash-1000", ".Trashes", ".thumbnails", ".git", ".hidden",
    ],
)  # fmt: skip
def test_what_systems_keep_beside_pictures_is_skipped_and_counted(tmp_path: Path, name: str) -> None:
    write(tmp_path, "a.jpg", f"{name}/a.jpg", f"deeper/{name}/x/b.jpg")
    planned = plan(tmp_path)
    assert (planned.paths, planned.skipped, planned.ignored) == (["a.jpg"], 2, 0)


def test_files_of_systems_are_skipped_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".DS_Store", "._a.jpg", "Icon\r")
    planned = plan(tmp_path)
    assert (planned.paths, planned.skipped, planned.ignored) == (["a.jpg"], 6, 0)


def test_a_folder_that_only_begins_like_one_of_a_system_is_imported(tmp_path: Path) -> None:
    write(tmp_path, "lost+found items/a.jpg", "__MACOSX2/b.jpg", "RECYCLE/c.jpg")
    assert plan(tmp_path).skipped == 0
    assert len(plan(tmp_path).paths) == 3


def test_a_folder_named_by_hand_is_imported_whatever_it_is_called(tmp_path: Path) -> None:
    write(tmp_path, "@eaDir/a.jpg")
    assert ids(tmp_path / "@eaDir") == ["a"]
