"""Files of ready vectors: every row an id, and what does not fit is told by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.imports.sources.vectors import BLOCK, VectorFileError, open_vectors

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
        ("v.jsonl", "{\n", "line 1: no JSON"),
        ("v.jsonl", '{"id": "a"}\n{"id": 1}\n', "line 2: must be an object"),
        ("v.jsonl", '{"id": "a", "metadata": []}\n', "line 1: metadata must be a JSON object"),
        ("v.jsonl", '{"id": "a", "price": 3}\n', "line 1: 'price' is neither"),
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
        ({"id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}, "different lengths"),
        ({"id": ["a", "b", "c"], "vector": [[1.0], [1.0, 2.0, 3.0], [1.0, 2.0]]}, "different lengths"),
        ({"id": ["a", None], "vector": [[1.0], [2.0]]}, "is missing"),
        ({"id": ["a", "b"], "vector": [[1.0], None]}, "is missing"),
        ({"id": ["a"], "vector": [[1.0]], "metadata": ["["]}, "metadata is no JSON"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(VectorFileError, match=says):
        rows(tmp_path / "t.parquet")


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
