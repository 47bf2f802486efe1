"""A large collection over real HTTP: the index behind it is described in the collection, the metrics and readyz."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.embedded.live.upkeep.policy import Policy
from tests.conftest import StartServer
from tests.harness.serving import Server

COUNT = 60_000  # enough that a build is still under way when a starting server begins to answer
DIM = 128
assert Policy().compress_from < COUNT


def vectors() -> np.ndarray:
    """Rows around 200 centres, as a catalogue's are."""
    random = np.random.default_rng(3)
    centres = random.standard_normal((200, DIM))
    rows = centres[random.integers(0, 200, COUNT)] + 0.5 * random.standard_normal((COUNT, DIM))
    return rows.astype(np.float32)


def collection(server: Server) -> dict[str, Any]:
    answer: dict[str, Any] = server.client.get("/v1/collections/things").json()
    return answer


def settled(server: Server) -> dict[str, Any]:
    """The collection once nothing is going on behind it. The build is seen while it runs, or has just ended."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        told = collection(server)
        assert 0 <= told["index"]["progress"] <= 1
        assert told["indexing"] or told["index"]["action"] is None
        if told["index_kind"] == "ivf-rabitq" and not told["indexing"]:
            return told
        time.sleep(0.02)
    raise AssertionError(f"the index was not built: {told}")


def gauge(server: Server, line: str) -> float:
    """The value of one line of /metrics."""
    found = re.search(rf"^{re.escape(line)} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
    assert found, line
    return float(found[1])


@pytest.fixture(scope="module")
def running(module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server = module_server()
    folder = tmp_path_factory.mktemp("vectors")
    np.save(folder / "things.npy", vectors())
    (folder / "things.jsonl").write_text(
        "".join(json.dumps({"id": f"t{n}", "metadata": {"half": n % 2}}) + "\n" for n in range(COUNT))
    )
    done = server.cli(
        *("import", str(folder / "things.npy"), "--ids", str(folder / "things.jsonl")),
        *("--collection", "things", "--model", "another network"),
    )
    assert done.returncode == 0, done.stderr
    return server


def test_what_the_index_holds_and_has_cost_is_told(running: Server) -> None:
    """By the collection and by the metrics alike, after a build in the background."""
    index = settled(running)["index"]
    assert index["vectors"] == COUNT == index["indexed"] + index["tail"]
    assert index["dead"] == 0 and index["memory_bytes"] > 0 and index["file_bytes"] > COUNT * DIM * 2
    assert index["last"]["rows"] > 0 and index["last"]["seconds"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", index["last"]["finished_at"])
    assert gauge(running, 'lookalike_index_vectors{collection="things",part="indexed"}') == index["indexed"]
    assert gauge(running, 'lookalike_index_memory_bytes{collection="things"}') == index["memory_bytes"]
    recall, effort = index["recall"], index["effort"]
    assert 0.9 < recall["low"] <= recall["value"] <= recall["high"] <= 1 and recall["queries"] >= 128
    assert effort["exact"] or 0 < effort["lists"] <= effort["most_lists"]
    assert gauge(running, 'lookalike_index_recall{collection="things"}') == pytest.approx(recall["value"], abs=1e-4)
    assert (index["note"], index["damaged"]) == ("", 0)
    assert gauge(running, 'lookalike_index_work_runs{action="build",collection="things"}') >= 1
    assert gauge(running, 'lookalike_index_work_seconds{action="build",collection="things"}') > 0


def test_recall_is_set_by_hand_and_searches_follow(running: Server) -> None:
    """1 compares every vector; null goes back; what is no share is refused; the metrics tell."""
    settled(running)
    path = "/v1/collections/things"
    refused: tuple[object, ...] = (0, 0.3, 1.5, 99, "0.9", [])
    for wrong in refused:
        assert running.client.patch(path, json={"recall": wrong}).status_code == 422
    told = running.client.patch(path, json={"recall": 1}).json()
    assert (told["recall"], told["recall_source"]) == (1, "collection")
    exact = settled(running)["index"]
    assert exact["effort"]["exact"] and exact["recall"]["value"] == 1
    assert gauge(running, 'lookalike_index_recall_wanted{collection="things"}') == 1
    told = running.client.patch(path, json={"recall": None}).json()
    assert (told["recall"], told["recall_source"]) == (0.995, "setting")
    back = settled(running)["index"]
    assert back["recall"]["queries"] >= 128 and [each["share"] for each in back["recall"]["filtered"]] == [0.1, 0.01]
    shown = gauge(running, 'lookalike_index_recall_filtered{collection="things",share="0.1"}')
    assert shown == pytest.approx(back["recall"]["filtered"][0]["value"], abs=1e-4)


def test_queries_by_id_and_vector_find_what_numpy_finds(running: Server) -> None:
    """Through the compressed index, with and without a filter; scores are exact cosines."""
    settled(running)
    rows = vectors()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = hits = 0
    for number in range(0, COUNT, COUNT // 40):
        for body in (
            {"id": f"t{number}"},
            {"vector": rows[number].tolist(), "filter": {"must": [{"key": "half", "match": 1}]}},
        ):
            answer = running.client.post(
                "/v1/collections/things/query", json={**body, "limit": 10, "score_threshold": -1}
            ).json()
            scores = unit @ unit[number]
            if "id" in body:
                scores[number] = -2
            else:
                scores[::2] = -2
            hits += len({f"t{n}" for n in np.argsort(-scores)[:10]} & {each["id"] for each in answer["results"]})
            found += len(answer["results"])
            for each in answer["results"]:
                assert abs(each["score"] - scores[int(each["id"][1:])]) < 2e-4
    assert collection(running)["index"]["filter_bytes"] >= 8 * COUNT
    assert found == 2 * 10 * len(range(0, COUNT, COUNT // 40)) and hits >= 0.98 * found


def test_a_damaged_index_is_rebuilt_and_readyz_tells_how_far(running: Server) -> None:
    """Last in this module. Until the index is rebuilt, readyz says 503 and the share that is done."""
    settled(running)
    assert running.stop() == 0
    [generation] = [path for path in (Path(running.data_dir) / "index").glob("*/*") if path.is_dir()]
    (generation / "index").write_bytes(b"not an index")
    running.start(wait=0)
    told = set()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            answer = running.client.get("/readyz")
        except OSError:
            continue
        except Exception as error:  # noqa: BLE001 - httpx wraps a refused connection in its own kind
            assert "refused" in str(error).lower() or "disconnect" in str(error).lower(), error
            continue
        if answer.status_code == 200:
            break
        told.add(answer.json()["detail"])
        time.sleep(0.01)
    assert answer.status_code == 200
    assert any(re.fullmatch(r"The search index of things is being rebuilt, \d+% done", each) for each in told), told
    assert settled(running)["index"]["vectors"] == COUNT
