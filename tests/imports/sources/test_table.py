"""Tables of pictures: types are kept, and every bad row is named and costs itself."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from service.imports.sources.opening import open_pictures
from service.imports.sources.source import SourceError
from service.imports.sources.tables import lines
from service.imports.sources.tables.table import COLUMNS
from service.imports.tally import Tally
from tests.harness.targets import Memory, imported


@pytest.fixture
def pics(tmp_path: Path) -> Path:
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    return tmp_path


def import_of(file: Path, target: Memory) -> Tally:
    pictures = open_pictures(file)
    sources = list(pictures.sources())
    assert pictures.count == len(sources)
    return imported(sources, target, bad=pictures.bad)


def test_columns_become_metadata_with_their_types(pics: Path) -> None:
    (pics / "t.csv").write_text(
        "id,image,price,code,size,note,big,metadata\n"
        'x,a.jpg,9.99,007,42,"two\nlines, ""quoted""",9007199254740993,"{""tags"":[""new"",1]}"\n'
        "y,b.jpg,,1.5.2,-3,,,\n"
    )
    target = Memory()
    assert import_of(pics / "t.csv", target).created == 2
    assert target.items["x"][1] == {
        "price": 9.99, "code": "007", "size": 42, "note": 'two\nlines, "quoted"', "big": 9007199254740993,
        "tags": ["new", 1],
    }  # fmt: skip
    assert target.items["y"][1] == {"code": "1.5.2", "size": -3}
    assert import_of(pics / "t.csv", target).unchanged == 2


def test_json_lines_keep_every_type(pics: Path) -> None:
    row = {
        "id": "x",
        "image": "a.jpg",
        "price": 1,
        "on": True,
        "none": None,
        "deep": {"a": [1.5]},
        "metadata": {"m": 1},
    }
    (pics / "t.jsonl").write_text(json.dumps(row) + "\n\n" + json.dumps({"id": 7, "image": "b.jpg"}))
    target = Memory()
    assert import_of(pics / "t.jsonl", target).created == 2
    assert target.items["x"][1] == {"price": 1, "on": True, "none": None, "deep": {"a": [1.5]}, "m": 1}
    assert target.items["7"][1] == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_are_read_as_programs_write_them(pics: Path, mark: str, end: str, encoding: str) -> None:
    rows = [["id", "image", "größe"], ["x", "a.jpg", "groß"], ["y", "b.jpg", "1,5" if mark != "," else "2"]]
    (pics / "t.csv").write_bytes(end.join(mark.join(row) for row in rows).encode(encoding))
    target = Memory()
    assert import_of(pics / "t.csv", target).created == 2
    assert target.items["x"][1] == {"größe": "groß"}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("x y,a.jpg", "'x y' is no id"),
        (",a.jpg", "has no id"),
        ("z,", "has no image"),
        ("z", "has no image"),
        ("z,a.jpg,1,2,3", "has 5 cells for 3 columns"),
        ("z,gone.jpg", "cannot be read: No such file"),
        ("z,.", "cannot be read"),
        ("ok,b.jpg", "would get the id ok, which t.csv line 2 already has"),
        ("z,https://example.com/a.jpg", "LOOKALIKE_FETCH_URLS"),
        ("z,ftp://example.com/a.jpg", "http and https"),
        ('z,"data:image/png;base64,%%%"', "no base64"),
        ("z,data:image/png", "has no comma"),
        ("z,a\0.jpg", "cannot be read"),
    ],
)
def test_a_bad_row_is_named_and_the_others_go_in(pics: Path, row: str, says: str) -> None:
    (pics / "t.csv").write_text(f"id,image,n\nok,a.jpg,1\n{row}\nlast,c.jpg,2\n")
    target = Memory(lanes=1)
    tally = import_of(pics / "t.csv", target)
    assert sorted(target.items) == ["last", "ok"]
    (bad,) = tally.bad
    assert bad.path == "t.csv line 3"
    assert says in bad.reason


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"id":"z"}', "has no image"),
        ('{"id":true,"image":"a.jpg"}', "has no id"),
        ('{"id":"z","image":"a.jpg","n":123456789012345678901234567890}', "64 bits"),
        ('{"id":"z","id":"y","image":"a.jpg"}', "same key twice"),
        (json.dumps({"id": "z", "image": "a.jpg", "n": "x" * 70_000}), "at most 65,536"),
    ],
)
def test_a_bad_line_of_json_is_named_and_the_others_go_in(pics: Path, row: str, says: str) -> None:
    (pics / "t.jsonl").write_text(f'{{"id":"ok","image":"a.jpg"}}\n{row}\n{{"id":"last","image":"c.jpg"}}')
    target = Memory()
    tally = import_of(pics / "t.jsonl", target)
    assert sorted(target.items) == ["last", "ok"]
    assert [(bad.path, says in bad.reason) for bad in tally.bad] == [("t.jsonl line 2", True)]


@pytest.mark.parametrize(
    ("name", "good", "wrong"),
    [
        ("t.csv", ["id,image,n", "x,a.jpg,1"], b'y,b.jpg,"gr\xfc\xdf\nte"'),
        (
            "t.jsonl",
            ['{"id":"w","image":"b.jpg"}', '{"id":"x","image":"a.jpg"}'],
            b'{"id":"y","image":"b.jpg","n":"\xff"}',
        ),
    ],
)
def test_a_wrong_byte_is_the_error_of_its_row(pics: Path, name: str, good: list[str], wrong: bytes) -> None:
    last = b"z,c.jpg,\xc3\xbc" if name == "t.csv" else b'{"id":"z","image":"c.jpg","n":"\xc3\xbc"}'
    (pics / name).write_bytes("\n".join(good).encode() + b"\n" + wrong + b"\n" + last)
    target = Memory()
    tally = import_of(pics / name, target)
    assert sorted(target.items)[-2:] == ["x", "z"] and target.items["z"][1] == {"n": "ü"}
    assert [(bad.row, bad.slug, "UTF-8" in bad.reason) for bad in tally.bad] == [(3, "invalid-row", True)]


def test_a_table_that_ends_inside_quotes_is_cut_off(pics: Path) -> None:
    (pics / "t.csv").write_text('id,image,n\nx,a.jpg,"whole"\ny,b.jpg,"cut\nin the middle')
    target = Memory()
    tally = import_of(pics / "t.csv", target)
    assert list(target.items) == ["x"]
    assert [(bad.row, bad.slug) for bad in tally.bad] == [(3, "cut-off")]
    (pics / "u.csv").write_text('id,image,n\nx,a.jpg,"whole"\ny,b.jpg,"whole"')
    assert import_of(pics / "u.csv", Memory()).created == 2


@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl.gz", "q.csv.gz"])
def test_an_endless_row_ends_the_table_and_fills_no_memory(
    pics: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, or quotes that go on over many lines."""
    monkeypatch.setattr(lines, "LONGEST_ROW", 2**20)
    first = b'{"id":"x","image":"a.jpg"}\n' if "json" in name else b"id,image\nx,a.jpg\n"
    with gzip.open(pics / name, "wb", compresslevel=1) as file:
        file.write(first)
        part = b'"\n",' * 2**20 if name == "q.csv.gz" else b"x" * (4 * 2**20)
        for _ in range(16):
            file.write(part)
    target = Memory()
    tracemalloc.start()
    try:
        tally = import_of(pics / name, target)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (list(target.items), [bad.slug for bad in tally.bad]) == (["x"], ["cut-off"])
    assert most < 32 * 2**20


def test_pictures_may_be_in_the_table_itself(pics: Path) -> None:
    uri = f"data:image/jpeg;base64,{base64.b64encode(b'inside').decode()}"
    (pics / "t.csv").write_text(f'id,image\nx,"{uri}"\ny,"data:,plain%21"\n')
    target = Memory()
    assert import_of(pics / "t.csv", target).created == 2
    assert (target.items["x"][0], target.items["y"][0]) == (b"inside", b"plain!")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no column `id`"),
        (b"sku,image\n1,a.jpg\n", "no column `id` (it has sku, image)"),
        (b"id,picture\n1,a.jpg\n", "no column `image`"),
        (b"id,image,id\n1,a.jpg,2\n", "two columns of one name"),
        ("id,image,größe\n".encode("latin-1"), "is no text in UTF-8"),
        (b"\xff\xd8\xff\xe0 a jpeg by mistake", "is no text in UTF-8"),
    ],
)
def test_what_is_no_table_of_pictures_is_told_in_one_line(pics: Path, content: bytes, says: str) -> None:
    (pics / "t.csv").write_bytes(content)
    with pytest.raises(SourceError) as error:
        open_pictures(pics / "t.csv")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.txt", "photo.jpg", "x.docx", "x.7z", "x"])
def test_other_files_are_refused_and_the_kinds_named(pics: Path, name: str) -> None:
    (pics / name).write_bytes(b"something")
    with pytest.raises(SourceError, match=r"\.zip, .*\.csv.*\.npy"):
        open_pictures(pics / name)


def test_bad_rows_are_named_in_their_order(pics: Path) -> None:
    (pics / "t.csv").write_text("id,image\n" + "".join(f"p{n},gone-{n}.jpg\n" for n in range(12)))
    assert [row.path for row in import_of(pics / "t.csv", Memory()).bad] == [f"t.csv line {n}" for n in range(2, 14)]


def test_a_table_that_somebody_sent_names_nothing_of_this_machine(pics: Path) -> None:
    (pics / "t.csv").write_text(f"id,image\nx,a.jpg\ny,{pics / 'a.jpg'}\nz,../{pics.name}/a.jpg\n")
    with closing(open_pictures(pics / "t.csv", uploaded=True)) as pictures:
        tally = imported(pictures.sources(), Memory())
    assert [(row.row, row.id, row.slug) for row in tally.bad] == [
        (n, each, "not-found") for n, each in ((2, "x"), (3, "y"), (4, "z"))
    ]


def test_what_an_export_writes_comes_back_with_its_types(pics: Path) -> None:
    metadata = {"id": 1, "image": "x", "metadata": {"a": [1, 1.0, None, True, "007", {}]}, "t": "1.5", "": ""}
    with (pics / "t.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([COLUMNS, ["x", "a.jpg", json.dumps(metadata)]])
    (pics / "t.jsonl").write_text(json.dumps(dict(zip(COLUMNS, ["x", "a.jpg", metadata], strict=True))))
    for name in ("t.csv", "t.jsonl"):
        target = Memory()
        assert import_of(pics / name, target).created == 1
        assert json.dumps(target.items["x"][1], sort_keys=True) == json.dumps(metadata, sort_keys=True)


def test_a_catalogue_of_photographs_goes_in_with_exactly_its_rows(photo_root: Path) -> None:
    """Skips where the photographs are absent."""
    file = photo_root / "groceries" / "catalogue.csv"
    with file.open(encoding="utf-8", newline="") as text:
        rows = {row["id"]: {"label": row["label"], "category": row["category"]} for row in csv.DictReader(text)}
    target = Memory()
    target.max_bytes = 20 * 2**20
    tally = import_of(file, target)
    assert (tally.created, tally.bad) == (len(rows), [])
    assert {id: metadata for id, (_, metadata) in target.items.items()} == rows
