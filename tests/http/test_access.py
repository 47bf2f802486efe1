"""Keys over HTTP: who is refused, before a byte of the body is read, and what commands beside it may do."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access.scopes import needs
from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.process import ServerProcess, clean_environment, command
from tests.harness.serving import Server

ITEMS = "/v1/collections/default/items"


def lookalike(server: Server, *arguments: str) -> Any:
    done = server.cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def headers(made: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {made['key']}"}


@pytest.fixture(scope="module")
def served(module_server: StartServer) -> Server:
    return module_server("keyed", env={"LOOKALIKE_CORS_ORIGINS": "https://shop.example"})


@pytest.fixture(scope="module")
def keys(served: Server) -> dict[str, dict[str, Any]]:
    """One key of each kind; before the first there was an item, put by anybody."""
    assert served.put("default", "a", jpeg(0)).status_code == 201
    made = {scope: lookalike(served, "keys", "create", "--scope", scope) for scope in ("admin", "write", "search")}
    served.client.put("/v1/collections/shoes", headers=headers(made["write"])).raise_for_status()
    return made | {"shoes": lookalike(served, "keys", "create", "--scope", "write", "-c", "shoes", "--name", "imports")}


def test_with_the_first_key_all_but_health_and_the_page_needs_one(served: Server, keys: dict[str, Any]) -> None:
    for path in ("/livez", "/readyz", "/", "/docs", "/openapi.json", "/static/app.js"):
        assert served.client.get(path).status_code == 200, path
    for path in ("/metrics", "/v1/info", "/v1/models", "/v1/collections", ITEMS, f"{ITEMS}/a", f"{ITEMS}/a/thumbnail"):
        answer = served.client.get(path)
        assert answer.status_code == 401, path
        assert answer.json()["type"] == "/problems/unauthorized"
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert served.search("default", jpeg(0)).status_code == 401
    assert served.client.get("/nothing").status_code == 404


def test_no_operation_of_the_document_answers_past_its_key(served: Server, keys: dict[str, Any]) -> None:
    """Without a key, with a wrong or odd one, and with one that opens too little: each operation, as the table says."""
    document = served.client.get("/openapi.json").json()
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer " + "x" * 46},
        {"X-API-Key": keys["write"]["key"] + "x"},
        {"Authorization": f"Basic {keys['admin']['key']}"},
        {"Authorization": f"Bearer {keys['search']['key']}", "X-API-Key": "another"},
    ]
    asked, plain = 0, httpx.Client(base_url=served.url, trust_env=False, timeout=60)
    for path, operations in document["paths"].items():
        place = path.replace("{c}", "default").replace("{id}", "a").replace("{job}", "0" * 24)
        for method, operation in operations.items():
            name = operation["operationId"]
            if needs(name) == "open":
                continue
            for sent in wrong:
                answer = plain.request(method, place, headers=sent)
                assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized"), (name, sent)
            if needs(name) != "search":
                answer = plain.request(method, place, headers=headers(keys["search"]))
                assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden"), name
            asked += 1
    plain.close()
    assert asked > 30
    assert served.client.get(f"{ITEMS}/a", headers=headers(keys["search"])).status_code == 200


def test_scopes(served: Server, keys: dict[str, Any]) -> None:
    search, write, admin = (headers(keys[scope]) for scope in ("search", "write", "admin"))
    picture = {"image": ("a.jpg", jpeg(1))}
    assert served.client.get("/v1/info", headers=search).status_code == 200
    assert served.client.post("/v1/collections/default/search", files=picture, headers=search).status_code == 200
    assert served.client.get(ITEMS, headers={"X-API-Key": keys["search"]["key"]}).status_code == 200
    refused = served.client.put(f"{ITEMS}/b", files=picture, headers=search)
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
    assert served.client.put(f"{ITEMS}/b", files=picture, headers=write).status_code == 201
    assert served.client.get("/metrics", headers=write).status_code == 403
    assert served.client.get("/metrics", headers=admin).status_code == 200


def test_a_key_of_one_collection(served: Server, keys: dict[str, Any]) -> None:
    own = headers(keys["shoes"])
    picture = {"image": ("a.jpg", jpeg(1))}
    assert served.client.put("/v1/collections/shoes/items/s", files=picture, headers=own).status_code == 201
    assert served.client.put(f"{ITEMS}/s", files=picture, headers=own).status_code == 403
    listed = served.client.get("/v1/collections", headers=own).json()["items"]
    assert [each["name"] for each in listed] == ["shoes"]
    everything = served.client.get("/v1/collections", headers=headers(keys["search"])).json()["items"]
    assert {each["name"] for each in everything} == {"default", "shoes"}


def test_pictures_of_results_open_without_a_header(served: Server, keys: dict[str, Any]) -> None:
    found = served.client.post(
        "/v1/collections/default/search", files={"image": ("a.jpg", jpeg(0))}, headers=headers(keys["search"])
    ).json()
    address = found["results"][0]["thumbnail_url"]
    assert served.client.get(address).headers["content-type"] == "image/webp"
    other = address.replace("/items/a/", "/items/b/")
    assert other != address
    assert served.client.get(other).status_code == 401
    wrong = address.replace("signature=", "signature=A")
    assert served.client.get(wrong).status_code in (401, 422)
    assert served.client.get(address.partition("?")[0]).status_code == 401
    assert served.client.get(address.partition("?")[0], headers=headers(keys["search"])).status_code == 200


def test_a_large_upload_without_a_key_is_refused_before_it_is_read(served: Server, keys: dict[str, Any]) -> None:
    """The answer comes while forty megabytes are still announced, and nothing of them lies on the disk."""
    before = {path for path in served.data_dir.rglob("*") if path.is_file()}
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as opened:
        head = f"PUT {ITEMS}/big HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        opened.sendall((head + "Content-Length: 41943040\r\n\r\n").encode() + b"x" * 1000)
        assert b" 401 " in opened.recv(200)
    assert {path for path in served.data_dir.rglob("*") if path.is_file()} <= before | {served.data_dir / "audit"}


def test_a_page_of_another_origin_reads_why_it_was_refused(served: Server, keys: dict[str, Any]) -> None:
    shop = {"Origin": "https://shop.example"}
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert served.client.options("/v1/collections/default/search", headers=shop | asking).status_code == 204
    refused = served.client.post("/v1/collections/default/query", json={"id": "a"}, headers=shop)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, shop["Origin"])


def test_a_key_that_asks_too_often(served: Server, keys: dict[str, Any]) -> None:
    made = lookalike(served, "keys", "create", "--scope", "search", "--rate", "2/hour")
    answers = [served.client.get("/v1/info", headers=headers(made)) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert answers[-1].json()["type"] == "/problems/rate-limited"
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_commands_beside_the_server_need_no_key_and_a_revoked_key_opens_nothing(
    served: Server, keys: dict[str, Any], tmp_path: Path
) -> None:
    made = lookalike(served, "keys", "create", "--scope", "search")
    assert served.client.get("/v1/info", headers=headers(made)).status_code == 200
    (tmp_path / "c.jpg").write_bytes(jpeg(3))
    assert lookalike(served, "import", str(tmp_path))["created"] == 1
    assert lookalike(served, "search", str(tmp_path / "c.jpg"))["best_score"] == 1
    lookalike(served, "keys", "revoke", made["id"])
    assert served.client.get("/v1/info", headers=headers(made)).status_code == 401
    listed = {key["id"]: key for key in lookalike(served, "keys", "list")["keys"]}
    assert made["id"] not in listed
    assert listed[keys["shoes"]["id"]]["name"] == "imports"
    assert not any("digest" in key or "key" in key for key in listed.values())


def test_every_write_leaves_a_line(served: Server, keys: dict[str, Any]) -> None:
    write = headers(keys["write"])
    served.client.put(f"{ITEMS}/told", files={"image": ("a.jpg", jpeg(4))}, headers=write).raise_for_status()
    served.client.delete(f"{ITEMS}/told", headers=write).raise_for_status()
    assert served.client.delete(f"{ITEMS}/told", headers=write).status_code == 404
    lines = lookalike(served, "audit", "--last", "1000")["lines"]
    told = [line for line in lines if line.get("id") == "told"]
    assert [(line["who"], line["action"], line["status"]) for line in told] == [
        (keys["write"]["id"], "put_item", 201),
        (keys["write"]["id"], "delete_item", 204),
    ]
    assert {"create_key", "revoke_key"} <= {line["action"] for line in lines}
    text = (served.data_dir / "audit" / "audit.jsonl").read_text()
    assert not any(key["key"] in text for key in keys.values())
    assert not any(key["key"] in served.log() for key in keys.values())


def test_beyond_this_machine_nothing_is_served_without_keys(tmp_path: Path, model_dir: Path) -> None:
    """The listening address is not opened; a first key from a file opens it, and LOOKALIKE_INSECURE says so aloud."""

    def tried(**env: str) -> subprocess.CompletedProcess[str]:
        settings = {"LOOKALIKE_MODEL_DIR": str(model_dir), "LOOKALIKE_HOST": "0.0.0.0", "LOOKALIKE_PORT": "0", **env}
        return subprocess.run(
            [*command(), "serve", "--data-dir", str(tmp_path / "data")],
            capture_output=True,
            text=True,
            env=clean_environment(settings),
            cwd=tmp_path,
            timeout=120,
            check=False,
        )

    refused = tried()
    assert refused.returncode == 1
    assert "LOOKALIKE_BOOTSTRAP_KEY_FILE" in refused.stderr.splitlines()[-1]
    assert tried(LOOKALIKE_BOOTSTRAP_KEY_FILE=str(tmp_path / "none" / "key")).returncode == 1
    file = tmp_path / "first"
    first = {"LOOKALIKE_BOOTSTRAP_KEY_FILE": str(file), "LOOKALIKE_INSECURE": "false"}
    with ServerProcess(tmp_path / "data", model_dir, first) as server:
        server.start()
        key = file.read_text().strip()
        assert httpx.get(f"{server.url}/v1/info", trust_env=False).status_code == 401
        assert httpx.get(f"{server.url}/v1/info", headers={"X-API-Key": key}, trust_env=False).status_code == 200
    assert file.stat().st_mode & 0o077 == 0
