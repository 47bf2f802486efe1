"""Planning an import of a folder: the same ids on every run, clashes told, links and odd files harmless."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.imports.sources.folder import FolderError, assign, looks_like_picture, plan
from service.imports.sources.names import MAX_ID, id_of

JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60)
paths = st.lists(names, min_size=1, max_size=6).map("/".join)


def write(root: Path, *paths: str, content: bytes = JPEG) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def ids(root: Path) -> list[str]:
    return [source.id for source in plan(root).sources()]


@pytest.mark.parametrize(
    ("path", "id"),
    [
        ("apple.jpg", "apple"),
        ("fruit/red apple.JPEG", "fruit:red_apple"),
        ("a/b/c.d.png", "a:b:c.d"),
        ("grün/äpfel (1).webp", "gr_n:_pfel__1_"),
        ("mail@home_2-x.jpg", "mail@home_2-x"),
        ("no-extension", "no-extension"),
        ("..", "__"),
    ],
)
def test_an_id_is_the_path_without_extension_in_the_letters_of_ids(path: str, id: str) -> None:
    assert id_of(path) == id


@given(paths)
def test_every_path_gets_a_valid_id(path: str) -> None:
    id = id_of(path)
    assert re.fullmatch(r"[A-Za-z0-9._:@-]{1,128}", id)
    assert id not in (".", "..")


@given(st.lists(paths, max_size=20, unique=True))
def test_a_plan_gives_every_picture_an_id_of_its_own_or_names_the_clash(found: list[str]) -> None:
    planned = assign(found, root="/r")
    given_ids = [source.id for source in planned.sources()]
    assert len(set(given_ids)) == len(given_ids)
    assert len(planned.paths) + len(planned.bad) == len(found)
    assert assign(reversed(found), root="/r") == planned


def test_long_paths_stay_apart_and_within_the_limit() -> None:
    long = "folder/" * 30
    first, second = id_of(long + "a.jpg"), id_of(long + "b.jpg")
    assert first != second
    assert len(first) == len(second) == MAX_ID
    assert first.startswith("folder:folder:")


def test_a_name_gives_one_id_however_the_system_spells_its_accents() -> None:
    assert id_of("caf\u00e9.jpg") == id_of("cafe\u0301.jpg") == "caf_"


def test_of_two_files_with_one_id_the_second_is_bad_and_told_why(tmp_path: Path) -> None:
    write(tmp_path, "a b.jpg", "a_b.jpg", "c.jpg", "c.png")
    planned = plan(tmp_path)
    assert [source.metadata["path"] for source in planned.sources()] == ["a b.jpg", "c.jpg"]
    assert [row.path for row in planned.bad] == ["a_b.jpg", "c.png"]
    assert "a b.jpg already has" in planned.bad[0].reason


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
    assert (planned.ignored, planned.bad) == (3, [])


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
    assert (source.id, source.metadata["path"]) == ("caf_", "caf\ufffd.jpg")
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
    with pytest.raises(FolderError, match="does not exist"):
        plan(tmp_path / "nowhere")
    write(tmp_path, "file.jpg")
    with pytest.raises(FolderError, match="is not a folder"):
        plan(tmp_path / "file.jpg")


@pytest.mark.parametrize("head", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"GIF89a", b"<svg", b"%PDF-1.7"])
def test_other_contents_are_no_pictures(head: bytes) -> None:
    assert not looks_like_picture(head)
