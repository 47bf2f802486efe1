"""What damage and races look like from outside: nothing is lost, nothing else is refused, and there is a way out."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server

ITEMS = "/v1/collections/default/items"


def put(server: Server, id: str, seed: int, **metadata: object) -> int:
    answer = server.client.put(
        f"{ITEMS}/{id}", files={"image": ("a.jpg", jpeg(seed))}, data={"metadata": json.dumps(metadata)}
    )
    return answer.status_code


def originals(server: Server) -> set[str]:
    return {path.name for path in (server.data_dir / "originals").rglob("*") if path.is_file()}


def lose(data_dir: Path) -> None:
    for path in data_dir.glob("catalogue.db*"):
        path.unlink()


def roll_back(data_dir: Path) -> None:
    lose(data_dir)
    shutil.copy(data_dir / "early.db", data_dir / "catalogue.db")


@pytest.mark.parametrize("loss", [pytest.param(lose, marks=pytest.mark.slow), roll_back])
def test_a_lost_database_is_refused_and_its_pictures_are_adopted(
    server: StartServer, loss: Callable[[Path], None]
) -> None:
    """The server does not start, in one line; verify removes nothing; `adopt` makes items of the pictures again."""
    running = server()
    running.stop()
    shutil.copy(running.data_dir / "catalogue.db", running.data_dir / "early.db")
    running.start()
    for seed in range(3):
        assert put(running, f"i{seed}", seed) == 201
    running.stop()
    kept = originals(running)
    loss(running.data_dir)
    with pytest.raises(RuntimeError, match="exited with 1"):
        running.start()
    (line,) = [line for line in running.log().splitlines() if "lookalike adopt" in line]
    assert "snapshot restore" in line and "Traceback" not in running.log()
    assert running.cli("verify").returncode == 1
    assert originals(running) == kept and len(kept) == 3
    done = running.cli("adopt", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["collection"], told["created"]) == ("default", 3)
    running.start()
    assert {item["id"] for item in running.client.get(ITEMS).json()["items"]} == kept
    best = running.search("default", jpeg(1)).json()["results"][0]
    assert best["score"] == 1 and best["thumbnail_url"]
    assert running.cli("verify").returncode == 0
    assert json.loads(running.cli("verify", "--json").stdout)["items"] == 3


DAMAGE = {
    "metadata that is no text": "UPDATE items SET metadata = X'FF' WHERE id = 'i1'",
    "the vector": "UPDATE vectors SET data = zeroblob(4096) WHERE vid = (SELECT vid FROM items WHERE id = 'i1')",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_item_costs_itself_until_it_is_sent_again(server: StartServer, what: str) -> None:
    running = server()
    for seed in range(4):
        assert put(running, f"i{seed}", seed, n=seed) == 201
    running.stop()
    database = apsw.Connection(str(running.data_dir / "catalogue.db"))
    database.execute(DAMAGE[what])
    database.close()
    running.start()
    found = running.search("default", jpeg(1), score_threshold=-1).json()
    assert {result["id"] for result in found["results"]} == {"i0", "i2", "i3"} and found["filtered_count"] == 3
    described = running.client.get("/v1/collections/default").json()
    assert (described["damaged"], described["count"]) == (1, 4)
    assert 'lookalike_collection_damaged{collection="default"} 1.0' in running.client.get("/metrics").text
    listed = running.client.get(ITEMS).json()["items"]
    assert {item["id"] for item in listed} >= {"i0", "i2", "i3"}
    assert running.client.get(f"{ITEMS}/i1").status_code == (200 if "vector" in what else 404)
    by_filter = running.client.get(ITEMS, params={"filter": '{"must":[{"key":"n","range":{"gte":0}}]}'})
    assert by_filter.status_code == 200
    assert running.client.post("/v1/collections/default/query", json={"id": "i1"}).status_code == 404
    checked = running.cli("verify", "--json")
    assert checked.returncode == 1
    assert "item default/i1" in {finding["subject"] for finding in json.loads(checked.stdout)["findings"]}
    assert put(running, "i1", 1, n=1) == 200
    found = running.search("default", jpeg(1)).json()
    assert found["results"][0]["id"] == "i1" and found["filtered_count"] == 4
    assert running.client.get("/v1/collections/default").json()["damaged"] == 0
    assert running.cli("verify").returncode == 0


def test_creating_beside_deleting_never_finds_nothing(server: StartServer) -> None:
    """Made now or found: a collection that somebody deletes at the same time is made again."""
    running = server()

    def create(_: int) -> int:
        return running.client.put("/v1/collections/c", json={"score_threshold": 0.5}).status_code

    def delete(_: int) -> int:
        return running.client.delete("/v1/collections/c").status_code

    with ThreadPoolExecutor(8) as pool:
        created, deleted = pool.map(create, range(150)), pool.map(delete, range(150))
        assert set(created) <= {200, 201}
        assert set(deleted) <= {204, 404}


def test_a_search_beside_writes_of_one_item_is_of_one_moment(server: StartServer) -> None:
    """Whatever comes and goes meanwhile: as many results as are counted, and a best score where there is one."""
    running = server()
    done = threading.Event()
    only = '{"must":[{"key":"n","match":1}]}'

    def write() -> None:
        for n in range(40):
            put(running, "one", n % 2, n=n % 3)
            if n % 4 == 3:
                running.client.delete(f"{ITEMS}/one")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        for fields in ({}, {"filter": only}):
            found = running.search("default", jpeg(0), score_threshold=-1, **fields).json()
            assert len(found["results"]) == found["filtered_count"] <= 1
            assert (found["best_score"] is None) == (found["filtered_count"] == 0)
    writer.join()
