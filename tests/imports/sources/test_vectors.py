"""Files of ready vectors: every row an id, and what does not fit is named by file and line."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.imports.sources.vectors.sieve import VectorFileError
from service.imports.sources.vectors.vector_file import BLOCK, open_vectors

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def vectors(count: int, dim: int = 4) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)


def rows(file: Path, ids: Path | None = None) -> tuple[list[str], Any, list[Any]]:
    blocks = list(open_vectors(file, ids).blocks)
    return (
        [id for block in blocks for id in block.ids],
        np.concatenate([block.vectors for block in blocks]),
        [each for block in blocks for each in block.metadata or [{}] * len(block.ids)],
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_array_is_read_in_blocks_with_its_row_numbers_as_ids(tmp_path: Path, dtype: type[np.floating[Any]]) -> None:
    array: npt.NDArray[np.floating[Any]] = vectors(BLOCK + 3).astype(dtype)
    np.save(tmp_path / "v.npy", array)
    opened = open_vectors(tmp_path / "v.npy")
    assert (opened.count, opened.dim) == (BLOCK + 3, 4)
    ids, read, metadata = rows(tmp_path / "v.npy")
    assert ids == [str(row) for row in range(BLOCK + 3)]
    assert read.dtype == np.float32
    assert np.array_equal(read, array.astype(np.float32))
    assert not any(metadata)


def test_ids_and_metadata_come_from_the_file_beside_it_or_the_one_named(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors(2))
    (tmp_path / "v.txt").write_text("first\r\nsecond\n\n \n")
    assert rows(tmp_path / "v.npy")[0] == ["first", "second"]
    lines = [{"id": "a", "metadata": {"n": 1}}, {"id": "b"}]
    (tmp_path / "named.jsonl").write_text("\n".join(map(json.dumps, lines)))
    ids, _, metadata = rows(tmp_path / "v.npy", tmp_path / "named.jsonl")
    assert (ids, metadata) == (["a", "b"], [{"n": 1}, {}])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("v.txt", "only-one\n", "1 ids for 2 vectors"),
        ("v.txt", "a\nb\nc\n", "more than 2 ids"),
        ("v.txt", "a\n\nb\n", "line 2 is empty"),
    ],
)
def test_ids_that_do_not_fit_are_told_by_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    np.save(tmp_path / "v.npy", vectors(2))
    (tmp_path / name).write_text(text)
    with pytest.raises(VectorFileError, match=says):
        rows(tmp_path / "v.npy")


def test_a_table_brings_ids_vectors_and_metadata(tmp_path: Path) -> None:
    array = vectors(5)
    fixed = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(array.ravel()), 4)
    plain = {"id": list("abcde"), "vector": fixed, "price": range(5), "brand": ["x"] * 5}
    parquet.write_table(pyarrow.table(plain), tmp_path / "columns.parquet")
    ids, read, metadata = rows(tmp_path / "columns.parquet")
    assert ids == list("abcde")
    assert np.array_equal(read, array)
    assert metadata[3] == {"price": 3, "brand": "x"}

    told = {"id": range(5), "vector": array.tolist(), "metadata": ['{"n": 1}'] * 5, "other": range(5)}
    parquet.write_table(pyarrow.table(told), tmp_path / "text.parquet")
    ids, read, metadata = rows(tmp_path / "text.parquet")
    assert (ids[4], metadata[0]) == ("4", {"n": 1})
    assert np.allclose(read, array)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"vector": [[1.0]]}, "no column `id`"),
        ({"id": ["a"]}, "no column `vector`"),
        ({"id": ["a"], "vector": ["text"]}, "must be a list of floats"),
        ({"id": ["a"], "vector": [[1]]}, "must be a list of floats"),
        ({"id": ["a"], "vector": pyarrow.array([None], pyarrow.list_(pyarrow.float32()))}, "no vector"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(VectorFileError, match=says):
        rows(tmp_path / "t.parquet")


def bad_rows(file: Path, ids: Path | None = None) -> list[tuple[str, str]]:
    return [(row.path, row.reason) for block in open_vectors(file, ids).blocks for row in block.bad]


def fixed(values: list[Any]) -> Any:
    return pyarrow.array(values, pyarrow.list_(pyarrow.float32(), 2))


@pytest.mark.parametrize(
    ("columns", "row", "says"),
    [
        ({"id": ["a", "b"], "vector": [[1.0, 1.0], [1.0]]}, 1, "has 1 numbers, the first one 2"),
        ({"id": ["a", "b", "c"], "vector": [None, [1.0, 2.0], [1.0, 2.0]]}, 0, "the vector is missing"),
        ({"id": ["a", "b", "c"], "vector": fixed([[1, 2], None, [1, 2]])}, 1, "the vector is missing"),
        ({"id": ["a", "b"], "vector": [[1.0, 1.0], [1.0, None]]}, 1, "missing or not finite"),
        ({"id": ["a", "b"], "vector": [[1.0, 1.0], []]}, 1, "has 0 numbers"),
        ({"id": ["a", None], "vector": [[1.0], [2.0]]}, 1, "the id is missing"),
        ({"id": ["a", "b c"], "vector": [[1.0], [2.0]]}, 1, "'b c' is no id"),
        ({"id": [7, 7, 8], "vector": [[1.0], [2.0], [3.0]]}, 1, "the id 7 is that of an earlier row"),
        ({"id": ["a"], "vector": [[1.0]], "metadata": ["["]}, 0, "the metadata is not valid JSON"),
        ({"id": ["a"], "vector": [[1.0]], "metadata": ["[1]"]}, 0, "must be a JSON object"),
        ({"id": ["a"], "vector": [[1.0]], "metadata": ['{"n": 99999999999999999999}']}, 0, "64 bits"),
        ({"id": ["a"], "vector": [[1.0]], "blob": [b"x"]}, 0, "the metadata is no JSON"),
        ({"id": ["a"], "vector": [[1.0]], "text": ["x" * 70_000]}, 0, "at most 65,536"),
    ],
)
def test_a_bad_row_of_a_table_is_named_and_the_others_go_on(
    tmp_path: Path, columns: dict[str, Any], row: int, says: str
) -> None:
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    (bad,) = bad_rows(tmp_path / "t.parquet")
    assert bad[0] == f"t.parquet row {row}"
    assert says in bad[1]
    ids, read, _ = rows(tmp_path / "t.parquet")
    assert ids == [str(id) for position, id in enumerate(columns["id"]) if position != row]
    assert len(read) == len(ids)


@pytest.mark.parametrize(
    ("name", "text", "line", "says"),
    [
        ("v.txt", b"a\nb\na\nd\n", 3, "the id a is that of an earlier row"),
        ("v.txt", b"a\nb\nc d\nd\n", 3, "is no id"),
        ("v.txt", "a\nb\nç\nd\n".encode(), 3, "is no id"),
        ("v.jsonl", b'{"id":"a"}\n{\n{"id":"c"}\n{"id":"d"}', 2, "not valid JSON"),
        ("v.jsonl", b'{"id":"a"}\n{"id":2}\n{"id":"c"}\n{"id":"d"}', 2, "must be an object"),
        ("v.jsonl", b'{"id":"a","metadata":[1]}\n{"id":"b"}\n{"id":"c"}\n{"id":"d"}', 1, "must be a JSON object"),
        ("v.jsonl", b'{"id":"a","price":3}\n{"id":"b"}\n{"id":"c"}\n{"id":"d"}', 1, "'price' is neither"),
        ("v.jsonl", b'{"id":"a"}\n{"id":"b"}\n{"id":"c"}\n{"id":"a"}', 4, "of an earlier row"),
    ],
)
def test_a_bad_line_of_ids_is_named_and_the_others_go_on(
    tmp_path: Path, name: str, text: bytes, line: int, says: str
) -> None:
    array = vectors(4)
    np.save(tmp_path / "v.npy", array)
    (tmp_path / name).write_bytes(text)
    (bad,) = bad_rows(tmp_path / "v.npy")
    assert bad[0] == f"{name} line {line}"
    assert says in bad[1]
    ids, read, _ = rows(tmp_path / "v.npy")
    assert len(ids) == 3
    assert np.array_equal(read, np.delete(array, line - 1, axis=0))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([np.nan, 0, 0, 1], "missing or not finite"),
        ([np.inf, 0, 0, 1], "missing or not finite"),
        ([0, 0, 0, 0], "the vector is zero"),
        ([-0.0, 0, 0, 0], "the vector is zero"),
    ],
)
def test_a_vector_that_is_none_is_named_by_its_row(tmp_path: Path, row: list[float], says: str) -> None:
    array = vectors(BLOCK + 5)
    array[BLOCK + 2] = row
    np.save(tmp_path / "v.npy", array)
    (bad,) = bad_rows(tmp_path / "v.npy")
    assert bad[0] == f"v.npy row {BLOCK + 2}"
    assert says in bad[1]
    assert len(rows(tmp_path / "v.npy")[0]) == BLOCK + 4


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_vectors_are_sound(tmp_path: Path, scale: float) -> None:
    np.save(tmp_path / "v.npy", vectors(3) * np.float32(scale))
    assert bad_rows(tmp_path / "v.npy") == []


def test_an_id_that_comes_twice_in_different_blocks_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors(BLOCK + 1))
    (tmp_path / "v.txt").write_text("\n".join(["first", *map(str, range(BLOCK - 1)), "first"]))
    assert [name for name, _ in bad_rows(tmp_path / "v.npy")] == [f"v.txt line {BLOCK + 1}"]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_in_any_memory_and_byte_order(tmp_path: Path, order: Any, dtype: str) -> None:
    array = vectors(BLOCK + 3).astype(dtype)
    np.save(tmp_path / "v.npy", np.asarray(array, order=order))
    for block in open_vectors(tmp_path / "v.npy").blocks:
        assert block.vectors.flags.c_contiguous
        assert block.vectors.dtype == np.float32
    assert np.array_equal(rows(tmp_path / "v.npy")[1], array.astype(np.float32))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["v.txt", "v.jsonl"])
def test_ids_are_read_as_editors_write_them(tmp_path: Path, name: str, end: str, encoding: str) -> None:
    lines = [f'{{"id": "{id}"}}' if name == "v.jsonl" else f"{id} " for id in "ab"]
    np.save(tmp_path / "v.npy", vectors(2))
    (tmp_path / name).write_bytes((end.join(lines) + end).encode(encoding))
    assert rows(tmp_path / "v.npy")[0] == ["a", "b"]


def test_ids_in_latin_1_are_refused_in_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors(2))
    (tmp_path / "v.txt").write_bytes("ä\nö\n".encode("latin-1"))
    with pytest.raises(VectorFileError, match=r"v\.txt is no text in UTF-8"):
        rows(tmp_path / "v.npy")


def test_values_that_tables_hold_become_json(tmp_path: Path) -> None:
    table = {
        "id": ["a", "b"],
        "vector": [[1.0], [2.0]],
        "price": [decimal.Decimal("9.50"), decimal.Decimal("3.00")],
        "day": [datetime.date(2026, 1, 2), None],
        "at": [datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), None],
        "weight": [float("nan"), 1.5],
        "tags": [["x"], []],
    }
    parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
    _, _, metadata = rows(tmp_path / "t.parquet")
    assert metadata == [
        {"price": 9.5, "day": "2026-01-02", "at": "2026-01-02T03:04:05+00:00", "weight": None, "tags": ["x"]},
        {"price": 3, "day": None, "at": None, "weight": 1.5, "tags": []},
    ]


def test_a_table_that_is_damaged_inside_is_told_by_row(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    array = vectors(3 * BLOCK)
    parquet.write_table(
        pyarrow.table({"id": map(str, range(len(array))), "vector": array.tolist()}), file, row_group_size=BLOCK
    )
    content = bytearray(file.read_bytes())
    start = parquet.ParquetFile(file).metadata.row_group(2).column(1).data_page_offset
    content[start : start + 200] = bytes(200)
    file.write_bytes(content)
    with pytest.raises(VectorFileError, match="cannot be read"):
        rows(file)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2, 2)), np.zeros((2, 2), int), np.array([["a"]])])
def test_other_arrays_are_refused(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(VectorFileError, match="two dimensions"):
        open_vectors(tmp_path / "v.npy")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(VectorFileError):
        open_vectors(tmp_path / "v.npy")


@given(
    st.sampled_from([b"", b"PK\x03\x04", b"PAR1", b"\x93NUMPY\x01\x00"]) | st.binary(),
    st.binary(max_size=300),
    st.sampled_from(["v.npy", "v.parquet"]),
)
def test_arbitrary_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, content: bytes, name: str
) -> None:
    file = tmp_path_factory.mktemp("vectors") / name
    file.write_bytes(start + content)
    with pytest.raises(VectorFileError):
        open_vectors(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for name in ("v.npy", "v.parquet"):
        with pytest.raises(VectorFileError, match="No such file"):
            open_vectors(tmp_path / name)
