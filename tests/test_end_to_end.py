"""The main job on real photographs, through the installed command and real HTTP, killed servers included."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.conftest import Photos, StartServer
from tests.harness.photographs import Photo
from tests.harness.serving import Server

pytestmark = pytest.mark.slow

FP32 = {"LOOKALIKE_PRECISION": "fp32"}
# EXIF orientation → how the pixels must have been turned for an upright picture to need it.
ORIENTATIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def upload_all(server: Server, collection: str, photos: Iterable[Photo]) -> None:
    """PUTs photographs four at a time; each must be created."""

    def put(photo: Photo) -> int:
        return server.put(collection, photo.id, photo.read(), json.dumps({"label": photo.label})).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(put, photos))
    assert set(statuses) == {201}


def search_all(server: Server, collection: str, photos: Sequence[Photo], **fields: Any) -> list[dict[str, Any]]:
    """One answer per photograph, in their order."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda photo: server.search(collection, photo.read(), **fields), photos))
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


def as_folder(directory: Path, photos: Iterable[Photo]) -> Path:
    """The photographs as somebody's folder: one subfolder per label."""
    for photo in photos:
        target = directory / photo.label.replace("/", "_") / photo.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo.path, target)
    return directory


@pytest.fixture(scope="module")
def clothing(module_server: StartServer, photos: Photos) -> Server:
    """A server with 500 pieces of clothing in `clothing`, uploaded over HTTP, at the network's own precision."""
    server = module_server("clothing", env=FP32)
    assert server.client.put("/v1/collections/clothing").status_code == 201
    upload_all(server, "clothing", photos("clothing", "catalogue", 500))
    return server


def test_strangers_find_no_like_and_relatives_do(clothing: Server, photos: Photos) -> None:
    """At the default threshold 95 of 100 unrelated pictures have no match, and most genuine ones keep theirs."""
    strangers = search_all(clothing, "clothing", photos("unrelated", "images", 100))
    relatives = search_all(clothing, "clothing", photos("clothing", "queries", 100))
    refused = [answer for answer in strangers if answer["no_match"]]
    assert len(refused) >= 95
    assert all(a["results"] == [] and a["message"] == "no similar images" for a in refused)
    assert all(a["best_score"] < a["score_threshold"] and a["threshold_source"] == "model_default" for a in refused)
    assert sum(not answer["no_match"] for answer in relatives) >= 75


def test_clothing_finds_its_kind(clothing: Server, photos: Photos) -> None:
    """The nearest piece of clothing mostly has the query's label, and scores come in order."""
    queries = photos("clothing", "queries", 100)
    answers = search_all(clothing, "clothing", queries, limit=5, score_threshold=-1)
    hits = sum(a["results"][0]["metadata"]["label"] == q.label for a, q in zip(answers, queries, strict=True))
    assert hits >= 65
    for answer in answers:
        scores = [result["score"] for result in answer["results"]]
        assert scores == sorted(scores, reverse=True) and len(scores) == 5 and answer["best_score"] == scores[0]


def test_a_turned_camera_changes_nothing(clothing: Server, photos: Photos) -> None:
    """Eight copies of one photograph, each turned and with the EXIF flag that undoes it, have the same neighbours."""
    with Image.open(photos("clothing", "queries", 1)[0].path) as photo:
        upright = photo.convert("RGB").resize((400, 533))

    def scores(turn: Image.Transpose | None, orientation: int) -> dict[str, float]:
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        # PNG: lossless, so that turning leaves the very same pixels.
        (upright if turn is None else upright.transpose(turn)).save(buffer, "PNG", exif=exif)
        answer = clothing.search("clothing", buffer.getvalue(), limit=10, score_threshold=-1).json()
        return {result["id"]: result["score"] for result in answer["results"]}

    # Turned pixels are resampled in another order: a grey level here and there, a thousandth or two of score.
    rounding = 5e-3
    expected = scores(None, 1)
    for orientation, turn in ORIENTATIONS.items():
        found = scores(turn, orientation)
        assert next(iter(found)) == next(iter(expected))
        assert all(abs(found[id] - expected[id]) < rounding for id in found.keys() & expected.keys())
        assert all(id in found for id, score in expected.items() if score > min(expected.values()) + rounding)
    unflagged = scores(Image.Transpose.ROTATE_90, 1)
    assert abs(max(unflagged.values()) - max(expected.values())) > rounding or unflagged.keys() != expected.keys()


def test_a_folder_imported_by_command_answers_over_http(server: StartServer, photos: Photos, tmp_path: Path) -> None:
    """`lookalike import` beside a running server: all go in, a bad file is named, a second run embeds nothing again,
    and queries find their kind; `lookalike search` says the same as HTTP."""
    running = server(env=FP32)
    catalogue = photos("groceries", "catalogue", 300)
    folder = as_folder(tmp_path / "shop", catalogue)
    (folder / "broken.jpg").write_bytes(catalogue[0].read()[:2000])

    first = running.cli("import", str(folder), "--collection", "groceries", "--json")
    assert first.returncode == 1, first.stderr
    assert "broken.jpg" in first.stdout + first.stderr
    assert running.client.get("/v1/collections/groceries").json()["count"] == 300
    again = running.cli("import", str(folder), "--collection", "groceries", "--json")
    assert json.loads(again.stdout)["unchanged"] == 300, again.stdout

    known = {photo.label for photo in catalogue}
    queries = [photo for photo in photos("groceries", "queries", 300) if photo.label in known][:100]
    answers = search_all(running, "groceries", queries, limit=3, score_threshold=-1)
    hits = sum(a["results"][0]["metadata"]["folder"] == q.label for a, q in zip(answers, queries, strict=True))
    assert hits >= 40

    told = running.cli(
        "search", str(queries[0].path), "--collection", "groceries", "--limit", "3", "--score-threshold=-1", "--json"
    )
    assert told.returncode == 0, told.stderr
    assert [r["id"] for r in json.loads(told.stdout)["results"]] == [r["id"] for r in answers[0]["results"]]


def test_a_killed_server_keeps_what_it_acknowledged(server: StartServer, photos: Photos) -> None:
    """SIGKILL in the middle of writes, twice: every item whose write was answered is there and finds itself."""
    running = server(env=FP32)
    pictures = photos("groceries", "catalogue", 200)
    acknowledged: dict[str, Photo] = {}
    waiting = iter(pictures)
    lock = threading.Lock()

    def write_until_gone() -> None:
        while True:
            with lock:
                photo = next(waiting, None)
            if photo is None:
                return
            try:
                status = running.put("default", photo.id, photo.read()).status_code
            except httpx.TransportError:
                return
            assert status == 201
            with lock:
                acknowledged[photo.id] = photo

    for pause in (1.0, 2.0):
        threads = [threading.Thread(target=write_until_gone) for _ in range(3)]
        for thread in threads:
            thread.start()
        threading.Event().wait(pause)
        running.kill()
        for thread in threads:
            thread.join()
        running.start()

    assert 0 < len(acknowledged) < 200, "the kill must fall into the middle"
    assert running.client.get("/v1/collections/default").json()["count"] >= len(acknowledged)
    for id, photo in acknowledged.items():
        item = running.client.get(f"/v1/collections/default/items/{id}")
        assert item.status_code == 200 and item.json()["image"]["bytes"] == len(photo.read())
    for photo in list(acknowledged.values())[:20]:
        nearest = running.search("default", photo.read(), limit=1).json()["results"][0]
        assert nearest["score"] == pytest.approx(1, abs=1e-3)
    # Writing goes on where it stopped.
    assert running.put("default", "after", pictures[-1].read()).status_code == 201


def test_a_killed_import_goes_on_where_it_stopped(server: StartServer, photos: Photos, tmp_path: Path) -> None:
    """The server dies under `lookalike import`; run again, only what had not been acknowledged is embedded."""
    running = server(env=FP32)
    folder = as_folder(tmp_path / "shop", photos("groceries", "catalogue", 150))
    killer = threading.Thread(target=kill_when_count_reaches, args=(running, 20))
    killer.start()
    broken = running.cli("import", str(folder), "--json", timeout=120)
    killer.join()
    assert broken.returncode != 0
    assert "Traceback" not in broken.stderr
    running.start()
    there = running.client.get("/v1/collections/default").json()["count"]
    assert 20 <= there < 150
    done = running.cli("import", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unchanged"] == there
    assert running.client.get("/v1/collections/default").json()["count"] == 150


def kill_when_count_reaches(server: Server, count: int) -> None:
    while server.client.get("/v1/collections/default").json()["count"] < count:
        threading.Event().wait(0.05)
    server.kill()
