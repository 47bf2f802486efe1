"""Archives: what is in them is imported, what is hostile or broken in them costs itself, and nothing is unpacked."""

from __future__ import annotations

import io
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.imports.sources.archives import entries, zip_entries
from service.imports.sources.names import root_of
from service.imports.sources.opening import open_pictures
from service.imports.sources.source import SourceError
from service.imports.tally import Tally
from tests.harness.soak import examples
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


def pictures_of(count: int) -> dict[str, bytes]:
    """Bytes that do not compress, so that a cut of the archive is one of its files."""
    random = np.random.default_rng(count)
    return {f"p/{number}.jpg": random.bytes(900 + number) for number in range(count)}


def streamed(file: Path, contents: Mapping[str, bytes]) -> Path:
    """A .zip whose sizes follow each file, as programs write it that cannot go back."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

        def seek(self, *_: int) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    file.write_bytes(pipe.getvalue())
    return file


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(
    ("name", "make"),
    [("a.zip", zipped), ("a.zip", streamed), ("a.tar", tarred), ("a.tar.gz", tarred), ("a.tar.xz", tarred)],
)
def test_of_an_archive_that_was_cut_off_goes_in_what_is_whole(
    tmp_path: Path, name: str, make: Callable[[Path, Mapping[str, bytes]], Path], share: float
) -> None:
    contents = pictures_of(40)
    file = make(tmp_path / name, contents)
    data = file.read_bytes()
    whole = Memory()
    assert (import_of(file, whole).created, import_of(file, Memory()).bad) == (40, [])
    file.write_bytes(data[: int(len(data) * share)])
    target = Memory()
    tally = import_of(file, target)
    assert [(row.slug, row.row) for row in tally.bad] == [("cut-off", None)]
    # A .tar is padded at its end, and a packer may hold back a part of its stream.
    assert 40 * share - (20 if name.endswith("xz") else 2) <= tally.created < 40
    assert {id: data for id, (data, _) in target.items.items()} == {
        f"p:{number}": contents[f"p/{number}.jpg"] for number in range(tally.created)
    }


@settings(max_examples=examples(60))
@given(at=st.integers(1, 10_300), name=st.sampled_from(["a.zip", "s.zip", "a.tar", "a.tar.gz"]))
def test_wherever_an_archive_is_cut_nothing_wrong_goes_in(at: int, name: str) -> None:
    contents = pictures_of(5)
    with tempfile.TemporaryDirectory() as folder:
        file = (zipped if name == "a.zip" else streamed if name == "s.zip" else tarred)(Path(folder) / name, contents)
        data = file.read_bytes()
        file.write_bytes(data[:at])
        target = Memory()
        try:
            tally = import_of(file, target)
        except SourceError:
            return
        assert at >= len(data) or len(tally.bad) == 1 or tally.created == 5
        assert all(contents[f"p/{id[2:]}.jpg"] == stored for id, (stored, _) in target.items.items())


def test_a_tar_without_its_end_mark_is_cut_off(tmp_path: Path) -> None:
    file = tarred(tmp_path / "a.tar", {"a.jpg": bytes(512), "b.jpg": bytes(512)})
    file.write_bytes(file.read_bytes()[: 4 * 512])
    tally = import_of(file, Memory())
    assert (tally.created, [(row.path, row.slug) for row in tally.bad]) == (2, [("a.tar", "cut-off")])


def test_an_archive_swells_to_no_more_than_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = zipped(tmp_path / "a.zip", {"a.jpg": b"1", "bomb.jpg": bytes(30 * 2**20), "flat.jpg": bytes(100_000)})
    tally = import_of(file, Memory())
    assert [(row.path, row.slug) for row in tally.bad if row.slug != "content-too-large"] == [
        ("bomb.jpg", "archive-limit")
    ]
    monkeypatch.setattr(entries, "FREE", 1_000_000)
    contents = {f"{number}.jpg": bytes([number]) * 400_000 for number in range(6)}
    for name in ("b.zip", "b.tar.gz"):
        target = Memory()
        target.max_bytes = 2**20
        tally = import_of((zipped if name == "b.zip" else tarred)(tmp_path / name, contents), target)
        assert tally.created == 2
        assert {(row.slug, "unpacked: split it" in row.reason) for row in tally.bad} == {("archive-limit", True)}
    monkeypatch.setattr(entries, "FREE", 2**30)
    monkeypatch.setattr(entries, "MOST_ENTRIES", 5)
    for name in ("b.zip", "b.tar.gz"):
        with pytest.raises(SourceError, match="more than 5 entries: split it"):
            open_pictures(tmp_path / name)
    monkeypatch.setattr(zip_entries, "LONGEST_LIST", 100)
    with pytest.raises(SourceError, match="list of files takes more than 100 bytes"):
        open_pictures(tmp_path / "b.zip")


def test_a_name_is_what_its_unicode_field_says_where_it_was_made_for_it(tmp_path: Path) -> None:
    def field(name: str, of: bytes) -> bytes:
        body = b"\1" + struct.pack("<I", zlib.crc32(of)) + name.encode()
        return struct.pack("<HH", 0x5455, 1) + b"\0" + struct.pack("<HH", 0x7075, len(body)) + body

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, of in (("k?t.jpg", b"k?t.jpg"), ("stale.jpg", b"other.jpg")):
            info = zipfile.ZipInfo(name)
            info.extra = field("кот.jpg", of)
            archive.writestr(info, b"1")
        archive.writestr("caf\u00e9.jpg", b"2")
    data = (tmp_path / "a.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("xx.jpg", b"3")
    (tmp_path / "b.zip").write_bytes((tmp_path / "b.zip").read_bytes().replace(b"xx.jpg", b"\x81\x94.jpg"))
    (tmp_path / "a.zip").write_bytes(data)
    for name, expected in (("a.zip", ["кот.jpg", "stale.jpg", "café.jpg"]), ("b.zip", ["üö.jpg"])):
        with closing(open_pictures(tmp_path / name)) as pictures:
            assert [source.name for source in pictures.sources()] == expected


def test_zip64_is_read_whole_and_cut(tmp_path: Path) -> None:
    contents = pictures_of(4)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in contents.items():
            with archive.open(name, "w", force_zip64=True) as entry:
                entry.write(content)
    assert import_of(tmp_path / "a.zip", Memory()).created == 4
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data[: data.index(b"PK\1\2")])
    tally = import_of(tmp_path / "a.zip", Memory())
    assert (tally.created, [row.slug for row in tally.bad]) == (4, ["cut-off"])


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
