"""Tables of queries as people send them: a row that cannot be used is named, and the others are evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.evaluation.ranking import Listed
from service.evaluation.table import as_label, read_queries, read_strangers
from service.evaluation.truth import EvaluationRefused, findable
from service.imports.sources.source import SourceError, Unreadable
from tests.harness.pictures import jpeg
from tests.harness.soak import examples


def table(folder: Path, data: bytes | str, name: str = "q.csv") -> Path:
    file = folder / name
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return file


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(jpeg(1))
    found = read_queries(table(tmp_path, "ID;Image;Label;Price\r\nq1;a\\x.jpg;shoe;3\r\nq2;b.jpg;;\r\n"), "label")
    assert (found.by, found.column) == ("label", "label")
    assert [(each.name, each.wanted) for each in found.queries] == [("a\\x.jpg", "shoe"), ("b.jpg", "")]
    assert found.queries[0].read(10**6) == jpeg(1)
    with pytest.raises(Unreadable):
        found.queries[1].read(10**6)
    (told,) = found.complaints
    assert told.what == "columns id, price"


@pytest.mark.parametrize(
    ("text", "key", "by", "expected"),
    [
        ("image,id,label\nx,i,l\n", "label", None, ("label", "l")),
        ("image,id,label\nx,i,l\n", "label", "id", ("id", "i")),
        ("image,id\nx,i\n", "label", None, ("id", "i")),
        ("image,brand,label\nx,b,l\n", "brand", None, ("label", "b")),
        ("query,product_id\nx,007\n", "product_id", None, ("label", "007")),
        ('image,metadata\nx,"{""brand"": ""b""}"\n', "brand", None, ("label", "b")),
        ("image,label\nx,12\n", "label", None, ("label", "12")),
        ("image,label\nx,1.50\n", "label", None, ("label", as_label("1.50"))),
        ("image,label\nx,12.0\n", "label", None, ("label", as_label(12))),
        ("image,label\nx,\n", "label", None, ("label", "")),
    ],
)
def test_what_decides(tmp_path: Path, text: str, key: str, by: str | None, expected: tuple[str, str]) -> None:
    found = read_queries(table(tmp_path, text), key, by)  # type: ignore[arg-type]
    assert (found.by, found.queries[0].wanted) == expected


@pytest.mark.parametrize(
    ("text", "by", "words"),
    [
        ("", None, "no column image"),
        ("a,b\n1,2\n", None, r"no column image \(it has a, b\)"),
        ("image,price\nx,1\n", None, r"no column label \(or label\) or id \(it has image, price\)"),
        ("image,label\nx,1\n", "id", "no column id"),
        (b"image,label\xff\nx,1\n", None, "UTF-8"),
    ],
)
def test_a_table_without_what_is_needed_is_refused(
    tmp_path: Path, text: str | bytes, by: str | None, words: str
) -> None:
    with pytest.raises(SourceError, match=words):
        read_queries(table(tmp_path, text), "label", by)  # type: ignore[arg-type]


def test_encodings_and_broken_rows(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        found = read_queries(table(tmp_path, "image,label\nmüsli.jpg,Müsli\n".encode(encoding)), "label")
        assert [(each.name, each.wanted) for each in found.queries] == [("müsli.jpg", "Müsli")]
    data = b"image,label\na.jpg,shoe\n" + "b.jpg,Müsli\n".encode("latin-1") + b",shoe\nc,d,e\nhttp://h/x.jpg,s\n"
    found = read_queries(table(tmp_path, data), "label")
    assert [each.name for each in found.queries] == ["a.jpg"]
    assert [each.what for each in found.complaints] == [f"q.csv line {line}" for line in (3, 4, 5, 6)]
    lines = '{"image": "a.jpg", "label": true}\nnonsense\n'
    found = read_queries(table(tmp_path, lines, "q.jsonl"), "label")
    assert [each.wanted for each in found.queries] == ["true"] and len(found.complaints) == 1
    with pytest.raises(SourceError, match="no table of queries"):
        read_queries(table(tmp_path, "x", "q.xlsx"), "label")


@given(st.binary(max_size=200))
@settings(max_examples=examples(60))
def test_any_bytes_are_a_table_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("tables")
    try:
        found = read_queries(table(folder, b"image,label\n" + data), "label")
    except SourceError as error:
        assert "\n" not in str(error)
    else:
        assert all(each.name for each in found.queries)


def test_strangers_are_a_folder_or_an_archive(tmp_path: Path) -> None:
    (tmp_path / "street").mkdir()
    (tmp_path / "street" / "a.jpg").write_bytes(jpeg(1))
    found, complaints = read_strangers(tmp_path / "street")
    assert [(each.name, each.wanted) for each in found] == [("a.jpg", "")] and not complaints
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match="no picture in it"):
        read_strangers(tmp_path / "none")


def test_labels_that_nobody_has_are_named_and_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{n}.jpg,{label}\n" for n, label in enumerate(["a", "zz", "zz", "yy", ""]))
    queries = read_queries(table(tmp_path, "image,label\n" + rows), "label")
    listed = Listed(["i"], [("a", "b")], [""])
    kept, told = findable(queries, listed, "label", ["label"])
    assert [each.wanted for each in kept] == ["a", ""]
    assert [(each.what, each.reason) for each in told] == [
        ("label zz", "no item has it; 2 queries left out"),
        ("label yy", "no item has it; 1 query left out"),
    ]
    with pytest.raises(EvaluationRefused, match=r"under the metadata key label: .*items have brand"):
        findable(queries, Listed(["i"], [()], [""]), "label", ["brand", "path"])
    with pytest.raises(EvaluationRefused, match="no item has any label of the column label, as 'a'"):
        findable(queries, Listed(["i"], [("c",)], [""]), "label", ["label"])
