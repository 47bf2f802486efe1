"""Calibration over HTTP and from the command line: measured, in force at once, refused with what is missing, undone."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import Lookalike
from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server

PATH = "/v1/collections/default"
COUNT = 24


def archive(pictures: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, data in pictures.items():
            packed.writestr(name, data)
    return out.getvalue()


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    server = module_server()
    for number in range(COUNT):
        label = f'{{"label": "{"odd" if number % 2 else "even"}"}}'
        assert server.put("default", f"i{number}", jpeg(number), label).status_code == 201
    return server


def calibrated(server: Server, negatives: bytes | None = None, **fields: Any) -> Any:
    """The answer's JSON, through the job where there is one."""
    files: dict[str, Any] = {name: (None, str(value)) for name, value in fields.items()}
    if negatives is not None:
        files["negatives"] = ("negatives.zip", negatives)
    files = files or {"label": (None, "")}
    response = server.client.post(f"{PATH}/calibration", files=files)
    while response.status_code == 202:
        time.sleep(0.05)
        response = server.client.get(f"{PATH}/jobs/{response.json()['id']}/result")
    return response.json()


def test_a_calibrated_threshold_decides_at_once_and_is_undone(running: Server) -> None:
    before = running.client.get(PATH).json()["score_threshold"]
    for path in ("calibration", "calibration/plot"):
        assert running.client.get(f"{PATH}/{path}").status_code == 404
    strangers = {f"{n}.jpg": jpeg(1_000 + n) for n in range(20)}
    found = calibrated(running, archive(strangers), false_accept_rate=0.1, label="label")
    assert found["negatives"] == 20 and found["method"] == "negatives", found
    assert found["false_accepts"]["hits"] <= 1 and found["kept"]["count"] == COUNT
    assert {each["label"] for each in found["classes"]} == {"odd", "even"}
    assert found["worst_class"] == found["classes"][0]
    assert running.client.get(f"{PATH}/calibration").json() == found
    shown = running.client.get(PATH).json()
    assert (shown["score_threshold"], shown["threshold_source"]) == (found["score_threshold"], "calibrated")
    answers = [running.search("default", data).json() for data in strangers.values()]
    assert sum(not each["no_match"] for each in answers) == found["false_accepts"]["hits"]
    for each in answers:
        above = sum(other["best_score"] >= each["best_score"] - 1e-6 for other in answers)
        assert each["p_value"] == pytest.approx((1 + above) / 21, abs=0.05)
    assert running.search("default", jpeg(3)).json()["p_value"] == pytest.approx(1 / 21)
    by_hand = running.client.patch(PATH, json={"score_threshold": 0.9}).json()
    assert by_hand["threshold_source"] == "collection", "set by hand goes first"
    running.client.patch(PATH, json={"score_threshold": None})
    assert running.client.delete(f"{PATH}/calibration").status_code == 204
    assert running.client.delete(f"{PATH}/calibration").status_code == 404
    shown = running.client.get(PATH).json()
    assert (shown["score_threshold"], shown["threshold_source"]) == (before, "model_default")
    assert "p_value" not in running.search("default", jpeg(3)).json()


def test_what_is_missing_is_told_and_the_old_one_stays(running: Server) -> None:
    strangers = {f"{n}.jpg": jpeg(2_000 + n) for n in range(5)}
    first = calibrated(running, archive(strangers), false_accept_rate=0.2)
    wrong = {**strangers, "inside.jpg": jpeg(3), "broken.jpg": b"\xff\xd8\xff\xe0 no picture"}
    for negatives, fields, words in (
        (archive(strangers), {}, "needs 99 pictures without a match, and there are 5; 5 allow 16.667 %"),
        (archive(wrong), {"false_accept_rate": 0.1}, "there are 5 (1 are in the catalogue, 1 could not be used)"),
        (archive({"readme.txt": b"nothing"}), {}, "no picture in it"),
        (b"PK\x03\x04 cut off", {}, "cannot be read"),
        (archive(strangers), {"false_accept_rate": 0.2, "label": "nobody"}, "no item has a value"),
    ):
        refused = calibrated(running, negatives, **fields)
        assert words in refused.get("detail", ""), refused
        assert running.client.get(f"{PATH}/calibration").json() == first
    wrongly: tuple[dict[str, Any], ...] = (
        {"false_accept_rate": 0},
        {"false_accept_rate": "1_0"},
        {"false_accept_rate": 2},
        {"rate": 0.1},
    )
    for fields in wrongly:
        assert calibrated(running, archive(strangers), **fields)["status"] == 422, fields
    assert running.client.post(f"{PATH}/calibration", json={}).status_code == 415
    sent = {"negatives": ("a.csv", b"id,image\n1,x.jpg\n")}
    assert running.client.post(f"{PATH}/calibration", files=sent).status_code == 415
    told = calibrated(running, archive(wrong), false_accept_rate=0.2)
    assert [each["id"] for each in told["in_catalogue"]] == ["i3"] and told["failed_count"] == 1
    assert told["score_threshold"] == first["score_threshold"] and told["version"] > first["version"]


def test_without_pictures_the_catalogue_decides(running: Server) -> None:
    found = calibrated(running)
    assert found["method"] == "catalogue" and found["false_accepts"] is None
    assert found["kept"]["value"] >= 0.95 and any("not measured" in each for each in found["warnings"])
    assert "p_value" not in running.search("default", jpeg(3)).json()
    running.client.put("/v1/collections/bare")
    refused = running.client.post("/v1/collections/bare/calibration", files={"label": (None, "")})
    while refused.status_code == 202:
        refused = running.client.get(f"/v1/collections/bare/jobs/{refused.json()['id']}/result")
    assert refused.status_code == 422 and "empty" in refused.json()["detail"]


def paired(
    server: Server, table: str, pictures: dict[str, bytes], negatives: bytes | None = None, **fields: Any
) -> Any:
    files: dict[str, Any] = {name: (None, str(value)) for name, value in fields.items()}
    files |= {"pairs": ("known.csv", table.encode()), "pictures": ("pictures.zip", archive(pictures))}
    if negatives is not None:
        files["negatives"] = ("negatives.zip", negatives)
    response = server.client.post(f"{PATH}/calibration", files=files)
    while response.status_code == 202:
        time.sleep(0.05)
        response = server.client.get(f"{PATH}/jobs/{response.json()['id']}/result")
    return response.json()


def test_known_pairs_tell_what_is_kept(running: Server) -> None:
    pictures = {f"q/{n}.jpg": jpeg(n) for n in range(COUNT)}
    strangers = archive({f"{n}.jpg": jpeg(4_000 + n) for n in range(9)})
    table = "image,id\n" + "".join(f"q/{n}.jpg,i{n}\n" for n in range(COUNT)) + "q/none.jpg,i1\n"
    found = paired(running, table, pictures, strangers, false_accept_rate=0.1)
    assert found["kept_of"] == "pairs" and found["kept"]["hits"] == found["kept"]["count"] == COUNT, found
    drawn = running.client.get(f"{PATH}/calibration/plot")
    assert drawn.headers["content-type"] == "image/png"
    again = running.client.get(f"{PATH}/calibration/plot", headers={"If-None-Match": drawn.headers["etag"]})
    assert again.status_code == 304 and not again.content
    assert found["nearest_right"]["hits"] == COUNT and found["in_catalogue_count"] == 0
    assert found["recommended"]["kept"]["value"] == 1 and found["recommended"]["false_accepts"]["hits"] == 0
    assert [each["name"] for each in found["failed"]] == ["q/none.jpg"]
    assert running.client.get(f"{PATH}/calibration").json() == found
    labels = "image,label\n" + "".join(f"q/{n}.jpg,{'odd' if n % 2 else 'even'}\n" for n in range(COUNT))
    assert paired(running, labels, pictures)["method"] == "pairs"
    assert running.client.get(f"{PATH}/calibration").json()["nearest_right"]["hits"] == COUNT
    for wrong, words in (
        ("image,id\nq/1.jpg,nobody\n", "no item nobody"),
        ("image,label\nq/1.jpg,nobody\n", "no item has nobody"),
        ("image,id\nz.jpg,i1\n", "no picture can be used; z.jpg is not in the archive"),
        ("a,b\n1,2\n", "first line must name"),
    ):
        assert words in paired(running, wrong, pictures)["detail"]
    lone = running.client.post(f"{PATH}/calibration", files={"pairs": ("p.csv", table.encode())})
    assert lone.status_code == 422 and "together" in lone.json()["detail"]


def test_the_command_line_measures_a_folder(running: Server, tmp_path: Path, model_dir: Path) -> None:
    lookalike = Lookalike(tmp_path, model_dir)
    folder = tmp_path / "strangers"
    folder.mkdir()
    for number in range(9):
        (folder / f"{number}.jpg").write_bytes(jpeg(3_000 + number))
    options = ("--data-dir", running.data_dir, "--rate", "0.1")
    found = lookalike.json("calibrate", folder, "--plot", "plot.png", *options)
    assert (tmp_path / "plot.png").read_bytes() == running.client.get(f"{PATH}/calibration/plot").content
    assert found == running.client.get(f"{PATH}/calibration").json() and found["negatives"] == 9
    assert lookalike.json("calibrate", "--reset", "--data-dir", running.data_dir) == {"reset": "default"}
    assert running.client.get(PATH).json()["threshold_source"] == "model_default"
    (tmp_path / "i2.jpg").write_bytes(jpeg(2))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "known.csv").write_text("image,id\n../i2.jpg,i2\n")
    found = lookalike.json("calibrate", folder, "--pairs", tmp_path / "tables" / "known.csv", *options)
    assert (found["nearest_right"]["hits"], found["nearest_right"]["count"]) == (1, 1)
    assert lookalike.json("calibrate", "--reset", "--data-dir", running.data_dir) == {"reset": "default"}
    (tmp_path / "empty").mkdir()
    refused = lookalike("calibrate", tmp_path / "empty", *options)
    assert refused.returncode == 1 and "no picture" in refused.stderr
