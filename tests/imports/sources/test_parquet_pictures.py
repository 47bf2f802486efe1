"""Parquet files of pictures: bytes, names or Hugging Face's structs, typed metadata, and damage costs itself."""

from __future__ import annotations

import base64
import datetime
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from service.imports.sources.opening import holds_vectors, open_pictures
from service.imports.sources.source import SourceError
from service.imports.tally import Tally
from tests.harness.targets import Memory, imported

BYTES_AND_PATH = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def written(file: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), file, **options)
    return file


def import_of(file: Path, target: Memory, prefix: str = "") -> Tally:
    assert not holds_vectors(file)
    with closing(open_pictures(file, prefix=prefix)) as pictures:
        sources = list(pictures.sources())
        assert (len(sources), [source.row for source in sources]) == (pictures.count, list(range(len(sources))))
        return imported(sources, target, bad=pictures.bad)


@pytest.mark.parametrize(
    "kind", [pyarrow.binary(), pyarrow.large_binary(), pyarrow.dictionary(pyarrow.int32(), pyarrow.binary())]
)
def test_pictures_as_bytes_bring_the_other_columns_with_their_types(tmp_path: Path, kind: Any) -> None:
    day = datetime.date(2026, 11, 25)
    columns = {
        "id": ["x", "y"],
        "image": pyarrow.array([b"1", b"2"], kind),
        "price": [9.5, None],
        "stock": [3, 4],
        "on": [True, False],
        "tags": [["a", "b"], []],
        "day": [day, day],
        "code": ["007", "1e3"],
    }
    target = Memory()
    assert import_of(written(tmp_path / "p.parquet", columns), target).created == 2
    assert target.items["x"] == (
        b"1",
        {"price": 9.5, "stock": 3, "on": True, "tags": ["a", "b"], "day": "2026-11-25", "code": "007"},
    )
    assert target.items["y"][1]["price"] is None
    assert import_of(tmp_path / "p.parquet", target).unchanged == 2


def test_a_data_set_of_hugging_face_needs_no_ids(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"2")
    pictures = [{"bytes": b"1", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}, {"bytes": None, "path": None}]
    columns = {"image": pyarrow.array(pictures, BYTES_AND_PATH), "label": [4, 5, 6]}
    target = Memory()
    tally = import_of(written(tmp_path / "train-00000-of-00002.parquet", columns), target)
    assert target.items == {
        "train-00000-of-00002:0": (b"1", {"label": 4}),
        "train-00000-of-00002:1": (b"2", {"label": 5}),
    }
    assert [(row.slug, row.row, row.path) for row in tally.bad] == [
        ("missing-image", 2, "train-00000-of-00002.parquet row 2")
    ]
    assert import_of(tmp_path / "train-00000-of-00002.parquet", target, prefix="p").created == 2
    assert "p:train-00000-of-00002:0" in target.items


def test_pictures_are_named_by_text_as_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"1")
    uri = "data:image/jpeg;base64," + base64.b64encode(b"2").decode()
    columns = {
        "id": [1, 2, 3, 4],
        "image": ["a.jpg", uri, "gone.jpg", "ftp://host/a.jpg"],
        "metadata": ['{"n": 1}', None, None, None],
    }
    target = Memory()
    tally = import_of(written(tmp_path / "p.parquet", columns), target)
    assert target.items == {"1": (b"1", {"n": 1}), "2": (b"2", {})}
    assert [(row.id, row.slug, row.row) for row in tally.bad] == [("3", "not-found", 2), ("4", "url-refused", 3)]
    # Somebody else's paths name nothing of this machine.
    sent = imported(open_pictures(tmp_path / "p.parquet", uploaded=True).sources(), Memory())
    assert [(row.id, row.slug) for row in sent.bad] == [
        ("1", "not-found"),
        ("3", "not-found"),
        ("4", "url-refused"),
    ]


def test_bad_rows_are_named_and_the_others_go_in(tmp_path: Path) -> None:
    columns = {
        "id": ["a", None, "b c", "d", "a", "e"],
        "image": [b"1", b"2", b"3", None, b"5", b"6"],
        "metadata": [None, None, None, None, None, "no json"],
    }
    tally = import_of(written(tmp_path / "p.parquet", columns), Memory())
    assert tally.created == 1
    assert [(row.row, row.slug) for row in tally.bad] == [
        (1, "invalid-id"),
        (2, "invalid-id"),
        (3, "missing-image"),
        (4, "duplicate-id"),
        (5, "invalid-metadata"),
    ]


def test_a_file_with_vectors_is_one_of_vectors(tmp_path: Path) -> None:
    columns = {"id": ["a"], "vector": [[1.0]], "image": [b"1"]}
    assert holds_vectors(written(tmp_path / "v.parquet", columns))
    (tmp_path / "none.parquet").write_bytes(b"PAR1 nothing")
    assert holds_vectors(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image": [[1]]}, "must be bytes, text or a struct"),
        ({"image": [1]}, "must be bytes, text or a struct"),
        ({"image": [{"url": "x"}]}, "must be bytes, text or a struct"),
        ({"image": [b"1"], "mask": [{"bytes": b"2"}]}, "the column `mask` holds bytes"),
    ],
)
def test_columns_that_do_not_fit_are_told_in_one_line(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    with pytest.raises(SourceError, match=says):
        open_pictures(written(tmp_path / "p.parquet", columns))


def test_a_damaged_group_costs_its_rows_and_every_row_is_counted(tmp_path: Path) -> None:
    columns = {"id": [str(row) for row in range(60)], "image": [bytes([row]) * 400 for row in range(60)]}
    file = written(tmp_path / "p.parquet", columns, row_group_size=20, compression="gzip", use_dictionary=False)
    about = parquet.ParquetFile(file).metadata.row_group(1).column(1)
    data = bytearray(file.read_bytes())
    at = about.data_page_offset
    data[at : at + about.total_compressed_size] = bytes(about.total_compressed_size)
    file.write_bytes(data)
    tally = import_of(file, Memory())
    assert tally.created == 40
    assert [(row.row, row.slug) for row in tally.bad] == [(row, "unreadable") for row in range(20, 40)]
