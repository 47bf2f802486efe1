"""Archives: what is in them is imported, what is hostile or broken in them costs itself, and nothing is unpacked."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.imports.sources.names import root_of
from service.imports.sources.opening import open_pictures
from service.imports.sources.source import SourceError
from service.imports.tally import Tally
from tests.harness.targets import Memory, imported

JPEG = b"\xff\xd8\xff\xe0" + bytes(20)


def zipped(file: Path, contents: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file


def tarred(file: Path, contents: Mapping[str, bytes]) -> Path:
    mode: Any = f"w:{file.suffix[1:] if file.suffix != '.tar' else ''}"
    with tarfile.open(file, mode) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def import_of(file: Path, target: Memory, prefix: str = "") -> Tally:
    with closing(open_pictures(file, prefix=prefix)) as pictures:
        return imported(pictures.sources(), target, bad=pictures.bad)


@pytest.mark.parametrize("name", ["a.zip", "a.ZIP", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_pictures_of_an_archive_get_ids_and_metadata_like_those_of_a_folder(tmp_path: Path, name: str) -> None:
    contents = {"top.jpg": b"1", "./shoes/red one.png": b"2", "shoes/no-name": JPEG, "notes.txt": b"x", "кот.jpg": b"4"}
    file = (zipped if name.lower().endswith("zip") else tarred)(tmp_path / name, contents)
    with closing(open_pictures(file)) as pictures:
        assert (pictures.count, pictures.ignored, pictures.skipped, pictures.bad) == (4, 1, 0, [])
    target = Memory()
    assert import_of(file, target).created == 4
    assert target.items["top"] == (b"1", {"path": "top.jpg", "folder": "", "root": root_of(file)})
    (red,) = (id for id in target.items if id.startswith("shoes:red_one-"))
    assert target.items[red][1]["folder"] == "shoes"
    assert import_of(file, target).unchanged == 4
    assert import_of(file, Memory(), prefix="p").created == 4


def test_system_folders_of_an_archive_are_skipped_and_counted(tmp_path: Path) -> None:
    names = ["a.jpg", "__MACOSX/._a.jpg", "x/@eaDir/a.jpg/T.jpg", ".DS_Store", "x/.hidden/b.jpg", "Thumbs.db"]
    with closing(open_pictures(zipped(tmp_path / "a.zip", dict.fromkeys(names, JPEG)))) as pictures:
        assert (pictures.count, pictures.skipped) == (1, 5)


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "C:/evil.jpg", "..\\evil.jpg"])
def test_a_path_that_leads_out_is_bad_and_the_rest_goes_in(tmp_path: Path, name: str) -> None:
    target = Memory()
    for file in (
        zipped(tmp_path / "a.zip", {name: b"x", "b.jpg": b"1"}),
        tarred(tmp_path / "a.tar", {name: b"x", "b.jpg": b"1"}),
    ):
        tally = import_of(file, target)
        assert [row.reason for row in tally.bad] == ["its path leads out of the archive"]
    assert list(target.items) == ["b"]
    assert sorted(path.name for path in tmp_path.parent.rglob("*evil*")) == []


def test_links_and_devices_are_bad(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"{kind.decode()}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zip_file:
        info = zipfile.ZipInfo("link.jpg")
        info.external_attr = 0o120777 << 16
        zip_file.writestr(info, "/etc/passwd")
    for name, bad in (("a.tar", 3), ("a.zip", 1)):
        with closing(open_pictures(tmp_path / name)) as pictures:
            assert (len(pictures.bad), pictures.count) == (bad, 0)


def test_an_entry_that_swells_is_cut_at_the_limit_and_bad(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {"bomb.jpg": bytes(50_000_000), "b.jpg": b"1"})
    data = bytearray(file.read_bytes())
    # The list says that it is small.
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (500).to_bytes(4, "little")
    file.write_bytes(data)
    tally = import_of(file, Memory())
    assert (tally.created, [row.path for row in tally.bad]) == (1, ["bomb.jpg"])


def test_an_encrypted_entry_is_bad(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {"a.jpg": b"1", "b.jpg": b"2"})
    data = bytearray(file.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    tally = import_of(file, Memory())
    assert [(row.path, row.reason) for row in tally.bad] == [("a.jpg", "is encrypted")]
    assert tally.created == 1


def test_a_damaged_entry_is_bad_and_the_rest_goes_in(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {"a.jpg": bytes(range(256)) * 3, "b.jpg": b"2"})
    data = bytearray(file.read_bytes())
    data[60] ^= 0xFF
    file.write_bytes(data)
    tally = import_of(file, Memory())
    assert (tally.created, [row.path for row in tally.bad]) == (1, ["a.jpg"])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all", b"\1" * 2000])
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_what_is_no_archive_is_told_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read as an archive") as error:
        open_pictures(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_truncated_tar_is_told_in_one_line(tmp_path: Path) -> None:
    file = tarred(tmp_path / "a.tar.gz", {f"{n}.jpg": bytes([n]) * 50_000 for n in range(20)})
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(SourceError):
        open_pictures(file)


def test_names_without_a_said_encoding_are_utf8_where_they_can_be(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {"xxxx.jpg": b"1"})
    file.write_bytes(file.read_bytes().replace(b"xxxx.jpg", "öö.jpg".encode()))
    with closing(open_pictures(file)) as pictures:
        assert [source.name for source in pictures.sources()] == ["öö.jpg"]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("catalogue.csv", "id,image,price\nshoe,pics/a.jpg,9.5\ngone,pics/z.jpg,1\n"),
        ("feed.csv", "id;image;price\nshoe;.\\pics\\a.jpg;9.5\ngone;../a.jpg;1\n"),
        ("x.jsonl", '{"id":"shoe","image":"pics/a.jpg","price":9.5}\n{"id":"gone","image":"/pics/a.jpg.no"}\n'),
    ],
)
def test_a_table_at_the_root_is_the_manifest(tmp_path: Path, name: str, table: str) -> None:
    contents = {name: table.encode(), "pics/a.jpg": b"1", "pics/unlisted.jpg": b"2"}
    target = Memory()
    tally = import_of(zipped(tmp_path / "a.zip", contents), target)
    assert target.items == {"shoe": (b"1", {"price": 9.5})}
    assert [row.path for row in tally.bad] == [f"{name} line {3 if name.endswith('csv') else 2}"]
    assert "is not in the archive" in tally.bad[0].reason


def test_a_table_of_something_else_beside_pictures_is_no_manifest(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {"prices.csv": b"sku,price\n1,2\n", "a.jpg": b"1"})
    assert import_of(file, Memory()).created == 1
    for name in ("catalogue.csv",):
        with pytest.raises(SourceError, match="no column `id`"):
            open_pictures(zipped(tmp_path / "b.zip", {name: b"sku,price\n1,2\n", "a.jpg": b"1"}))


def test_a_damaged_manifest_is_told_in_one_line(tmp_path: Path) -> None:
    rows = "".join(f"p{n},{n}.jpg,{n * 7919 % 1000}\n" for n in range(500))
    file = zipped(tmp_path / "a.zip", {"catalogue.csv": ("id,image,n\n" + rows).encode(), "0.jpg": b"1"})
    data = bytearray(file.read_bytes())
    data[300:340] = bytes(40)
    file.write_bytes(data)
    with pytest.raises(SourceError) as error:
        open_pictures(file)
    assert "\n" not in str(error.value)
