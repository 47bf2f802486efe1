"""What was exported imports again to the same items, whatever their ids and metadata are."""

from __future__ import annotations

import contextlib
import csv
import json
import string
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.items import Entry
from index.limits import ID, MAX_INTEGER, MIN_INTEGER
from index.open import open_catalogue
from index.types import Catalogue, Collection
from service.errors import InvalidRequest
from service.exports.export import FORMATS, Format, Output, counted, format_of, pieces
from service.imports.sources.opening import holds_vectors, open_pictures
from service.imports.vector_import import import_vectors
from tests.harness.catalogues import MODEL, Model, entry, vector
from tests.harness.soak import examples

TABLES: tuple[Format, ...] = ("csv", "jsonl", "parquet")
ALPHABET = string.ascii_letters + string.digits + "._:@-"
IDS = st.text(ALPHABET, min_size=1, max_size=40).filter(ID.fullmatch)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(MIN_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
# Names that columns of a table have, texts that look like another type or like a formula.
KEYS = TEXTS | st.sampled_from(["id", "image", "metadata", "vector", "path", ""])
TRICKY = st.sampled_from(["007", "1e3", "null", "true", "=1+1", "+A1", "@x", "a\r\nb", '"', "\ufeff", "nan", " "])
METADATA = st.dictionaries(KEYS, VALUES | TRICKY, max_size=4)


@contextlib.contextmanager
def catalogue() -> Iterator[tuple[Catalogue, Path]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(open_catalogue(Path(folder) / "data")) as opened:
        yield opened, Path(folder)


def write(catalogue: Catalogue, file: Path, **options: Any) -> Path:
    with Output(file) as output:
        for piece in pieces(catalogue, "default", format_of(file), **options):
            output.write(piece)
    return file


def contents(collection: Collection) -> dict[str, tuple[str, bytes]]:
    """Metadata with its types, as JSON, and the vector's bytes, by id."""
    page, vectors = collection.scan_vectors(limit=1000)
    pairs = zip(page.items, vectors, strict=True)
    return {item.id: (json.dumps(item.metadata, sort_keys=True), row.tobytes()) for item, row in pairs}


@pytest.mark.parametrize("format", TABLES)
@settings(max_examples=examples(25))
@given(items=st.dictionaries(IDS, METADATA, min_size=1, max_size=8), dim=st.sampled_from([3, 64]), data=st.data())
def test_a_table_imports_to_the_same_ids_types_and_vectors(
    format: str, items: dict[str, dict[str, Any]], dim: int, data: st.DataObject
) -> None:
    """Bit for bit, also of vectors with few numbers, and without a line left over."""
    sparse = data.draw(st.booleans())
    rows = [vector(seed, dim) * (np.arange(dim) % 3 == 0 if sparse else 1) for seed in range(len(items))]
    model = Model(model="test", fingerprint="test-1", dim=dim)
    with catalogue() as (source, folder), catalogue() as (target, _):
        collection, _ = source.create("default", **model)
        entries = [Entry(id, row, each) for row, (id, each) in zip(rows, items.items(), strict=True)]
        collection.upsert(entries, fingerprint="test-1")
        file = write(source, folder / f"all.{format}")
        assert counted(file, format_of(file)).items == len(items) and holds_vectors(file)
        done = import_vectors(target, file, "default", default=lambda: dict(model))
        assert (done["created"], done["failed"], done["total"]) == (len(items), 0, len(items)), done["errors"]
        assert contents(target.get("default")) == contents(collection)
        again = import_vectors(target, file, "default", default=lambda: dict(model))
        assert again["unchanged"] == len(items)


@settings(max_examples=examples(25))
@given(items=st.dictionaries(IDS, METADATA, min_size=1, max_size=8))
def test_an_archive_holds_the_uploaded_bytes_under_safe_names(items: dict[str, dict[str, Any]]) -> None:
    """And its manifest gives each its id and metadata again; what has no upload is named."""
    with catalogue() as (source, folder):
        collection, _ = source.create("default", **MODEL)
        put = {id: f"picture of {id}".encode() for id in items}
        rows = [entry(id, seed, put[id]) for seed, id in enumerate(items)]
        rows = [Entry(row.id, row.vector, items[row.id], row.media, row.thumbnail, row.original) for row in rows]
        collection.upsert([*rows, entry("vector-alone", 99)], fingerprint="test-1")
        file = write(source, folder / "all.zip")
        put.pop("vector-alone", None)
        items = {id: metadata for id, metadata in items.items() if id != "vector-alone"}
        assert counted(file, "zip").left_out == ["vector-alone"] and counted(file, "zip").items == len(items)
        with contextlib.closing(open_pictures(file)) as pictures:
            found = {each.id: (each.read(10**6), each.metadata) for each in pictures.sources()}
        assert {id: data for id, (data, _) in found.items()} == put
        assert json.dumps({id: found[id][1] for id in items}, sort_keys=True) == json.dumps(items, sort_keys=True)
        with zipfile.ZipFile(file) as archive:
            names = [name.lower() for name in archive.namelist()]
        assert len(set(names)) == len(names) and all(name.count("/") <= 1 and ".." not in name for name in names)


def filled(source: Catalogue, count: int) -> Collection:
    collection, _ = source.create("default", **MODEL)
    collection.upsert([entry(f"i{n:04}", n, n=n) for n in range(count)], fingerprint="test-1")
    return collection


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_half_written_gets_the_name(format: str) -> None:
    with catalogue() as (source, folder):
        filled(source, 5)
        file = folder / f"all.{format}"
        file.write_bytes(b"the one before")
        with pytest.raises(ZeroDivisionError), Output(file) as output:
            output.write(next(pieces(source, "default", format_of(file)), b""))
            raise ZeroDivisionError
        assert file.read_bytes() == b"the one before" and sorted(path.name for path in folder.iterdir()) == [
            file.name,
            "data",
        ]
        write(source, file)
        assert counted(file, format_of(file)).items == (0 if format == "zip" else 5)


@pytest.mark.parametrize("format", TABLES)
def test_an_empty_collection_and_a_filter(format: str) -> None:
    from index.filters import parse_filter

    with catalogue() as (source, folder):
        collection = filled(source, 12)
        some = parse_filter({"must": [{"key": "n", "range": {"lt": 5}}]})
        file = write(source, folder / f"some.{format}", filter=some, vectors=False)
        assert counted(file, format_of(file)).items == 5
        collection.delete([f"i{n:04}" for n in range(12)])
        assert counted(write(source, file), format_of(file)).items == 0


def test_no_cell_of_a_csv_is_a_formula() -> None:
    """Metadata and vectors begin as JSON does; what an id may hold calls nothing."""
    with catalogue() as (source, folder):
        collection, _ = source.create("default", **MODEL)
        collection.upsert([Entry("-x", vector(1), {"note": "=cmd|'/c calc'!A1", "ü": "ß"})], fingerprint="test-1")
        file = write(source, folder / "all.csv")
        assert file.read_bytes().isascii()
        with file.open(newline="") as text:
            (header, cells) = csv.reader(text)
        assert header == ["id", "metadata", "vector"]
        assert cells[0] == "-x" and cells[1][0] == "{" and cells[2][0] == "["


def test_items_written_meanwhile_are_in_it_or_not_and_none_twice() -> None:
    """Those that stay are all there, with metadata and vector of one moment."""
    with catalogue() as (source, folder):
        collection = filled(source, 1500)
        over = threading.Event()

        def change() -> None:
            turn = 0
            while not over.is_set():
                turn += 1
                seed = 10_000 + turn
                collection.upsert([entry(f"i{turn % 1500:04}x", seed, of=seed)], fingerprint="test-1")
                collection.delete([f"i{turn * 7 % 1500:04}x"])

        worker = threading.Thread(target=change)
        worker.start()
        try:
            for _ in range(3):
                file = write(source, folder / "all.jsonl")
                found = [json.loads(line) for line in file.read_text().splitlines()]
                ids = [row["id"] for row in found]
                assert ids == sorted(set(ids)) and {f"i{n:04}" for n in range(1500)} <= set(ids)
                for row in found:
                    if "of" in row["metadata"]:
                        np.testing.assert_allclose(row["vector"], vector(row["metadata"]["of"]), atol=1e-3)
        finally:
            over.set()
            worker.join()


@pytest.mark.parametrize("name", ["all", "all.xlsx", "csv", ".json"])
def test_a_name_that_says_no_format_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="must end in one of"):
        format_of(Path(name))
