"""Collections, health, metrics, the schema and the docs over real HTTP."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import ROOT, Server


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    return module_server()


def test_collections_are_made_described_listed_and_deleted(running: Server) -> None:
    client = running.client
    made = client.put("/v1/collections/shoes", json={"score_threshold": 0.4})
    assert made.status_code == 201
    assert {key: made.json()[key] for key in ("name", "count", "score_threshold", "threshold_source", "indexing")} == {
        "name": "shoes",
        "count": 0,
        "score_threshold": 0.4,
        "threshold_source": "collection",
        "indexing": False,
    }
    assert client.put("/v1/collections/shoes").status_code == 200
    assert client.get("/v1/collections/shoes").json()["score_threshold"] == 0.4, "a bare PUT changed it"
    running.put("shoes", "a", jpeg(1))
    assert client.get("/v1/collections/shoes").json()["count"] == 1
    assert client.get("/v1/collections/default").json()["count"] == 0, "collections do not mix"
    first = client.get("/v1/collections", params={"limit": 1}).json()
    rest = client.get("/v1/collections", params={"cursor": first["next_cursor"]}).json()
    assert [each["name"] for each in first["items"] + rest["items"]] == ["default", "shoes"]
    assert rest["next_cursor"] is None
    assert client.delete("/v1/collections/shoes").status_code == 204
    assert client.get("/v1/collections/shoes").status_code == 404
    assert client.put("/v1/collections/shoes").json()["count"] == 0, "a new one of the same name starts empty"
    client.delete("/v1/collections/shoes")


def test_default_is_emptied_not_removed(running: Server) -> None:
    running.put("default", "a", jpeg(1))
    assert running.client.delete("/v1/collections/default").status_code == 204
    assert running.client.get("/v1/collections/default").json()["count"] == 0
    assert running.search("default", jpeg(1)).json()["no_match"] is True


def test_info_tells_what_really_runs(running: Server) -> None:
    info = running.client.get("/v1/info").json()
    assert info["model"]["providers"] == ["CPUExecutionProvider"] and info["device"] == "cpu"
    assert info["model"]["dim"] == 2048 and info["limits"]["limit"] == 100
    assert set(info["versions"]) == {"python", "onnxruntime", "faiss", "sqlite", "pillow"}
    assert info["confinement"] == running.client.get("/readyz").json()["confinement"]
    assert "limits" in info["confinement"] and "confinement" not in running.client.get("/livez").json()


def test_metrics_count_requests_and_stages(running: Server) -> None:
    running.search("default", jpeg(40))
    text = running.client.get("/metrics").text
    counted = re.search(
        r'requests_total\{method="POST",route="(/v1/collections/\{c\}/search)",status="200"\} (\d+)', text
    )
    assert counted and float(counted[2]) >= 1
    for stage in ("decode", "embed", "search"):
        assert f'lookalike_stage_seconds_count{{stage="{stage}"}}' in text
    assert 'lookalike_collection_items{collection="default"}' in text
    assert "zzz-never-asked" not in text
    running.client.get("/zzz-never-asked")
    assert "zzz-never-asked" not in running.client.get("/metrics").text, "a path of a stranger became a series"


def test_the_schema_has_short_unique_ids_and_describes_errors_and_uploads(running: Server) -> None:
    document = running.client.get("/openapi.json").json()
    operations = [
        (f"{method} {path}", operation)
        for path, each in document["paths"].items()
        for method, operation in each.items()
    ]
    names = [operation["operationId"] for _, operation in operations]
    assert len(set(names)) == len(names) and max(map(len, names)) <= 40
    for where, operation in operations:
        other = operation["responses"].get("default") or operation["responses"]["500"]
        problem = other["content"]["application/problem+json"]
        assert problem["schema"]["$ref"].endswith("/ProblemDetails"), where
        assert "HTTPValidationError" not in json.dumps(operation["responses"]), where
    for path, body in (("search", "multipart/form-data"), ("search/raw", "application/octet-stream")):
        assert [*document["paths"][f"/v1/collections/{{c}}/{path}"]["post"]["requestBody"]["content"]] == [body]
    picture = document["components"]["schemas"]["SearchForm"]["properties"]["image"]
    assert picture["format"] == "binary" and picture["contentMediaType"]
    text = json.dumps(document)
    for reference in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert reference in document["components"]["schemas"], f"{reference} is referred to but not there"


def test_docs_need_no_cdn(running: Server) -> None:
    page = running.client.get("/docs").text
    assert not re.search(r"https?://", page)
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert running.client.get(path).status_code == 200, path


def test_the_page_is_served_with_a_strict_policy(running: Server) -> None:
    response = running.client.get("/")
    assert response.status_code == 200 and "<html" in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


def test_a_second_server_on_the_directory_is_refused_in_one_line(running: Server, server: StartServer) -> None:
    done = running.cli("serve", timeout=60)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_serving_without_a_model_exits_in_one_line(server: StartServer, tmp_path: Any) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(RuntimeError, match="exited with 1") as failed:
        server(model_dir=tmp_path / "none")
    lines = str(failed.value).strip().splitlines()[1:]
    assert len(lines) == 1 and "lookalike model build" in lines[0]


def test_an_end_that_takes_too_long_is_cut_off() -> None:
    """Whatever holds the process: also a thread that never comes back."""
    code = (
        "import signal, threading; from service.http.server import end_within;"
        "end_within(0.3, signal.SIGTERM); threading.Event().wait(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 128 + signal.SIGTERM and "ending at once" in done.stderr


def test_sigterm_lets_what_runs_finish_and_what_waits_know(server: StartServer) -> None:
    one = server(env={"LOOKALIKE_THREADS": "1"})
    outcomes: list[int | str] = []

    def ask(number: int) -> None:
        with one.new_client(timeout=30) as client:
            try:
                files = {"image": ("a.jpg", jpeg(100 + number))}
                outcomes.append(client.post("/v1/collections/default/search", files=files).status_code)
            except httpx.TransportError as error:
                outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    while not re.search(r"lookalike_queue_places ([3-9]|1\d)\.", one.client.get("/metrics").text):
        assert any(thread.is_alive() for thread in threads), "all was answered before the signal"
    assert one.process is not None
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(30) == 0
    for thread in threads:
        thread.join()
    # A connection whose request had not been read yet is refused or closed; what was read is answered.
    assert set(outcomes) <= {200, 503, "ConnectError", "ReadError", "RemoteProtocolError"}, outcomes
    assert outcomes.count(200) >= 1
    assert not (one.data_dir / "owner.json").exists()


def test_info_says_what_runs_the_model(server: StartServer) -> None:
    """Runtime, file and kernels, and the speed by which they were chosen."""
    model = server("data").client.get("/v1/info").json()["model"]
    assert model["runtime"].split()[0] in ("onnxruntime", "openvino")
    assert model["images_per_second"] is None or model["images_per_second"] > 0
