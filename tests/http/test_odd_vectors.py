"""Catalogues that no one would make up, over real HTTP: three vectors over and over, one, two dimensions, odd recalls.

Each is indexed, measured and searched like any, through a kill in the middle of measuring, and down to nothing.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.embedded.live.upkeep.policy import Policy
from tests.conftest import StartServer
from tests.harness.serving import Server

COUNT = 12_000
DELETED_AT_ONCE = 1_000
assert Policy().compress_from < COUNT


def settled(server: Server, name: str) -> dict[str, Any]:
    """The collection once nothing goes on behind it."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        told: dict[str, Any] = server.client.get(f"/v1/collections/{name}").json()
        if not told["indexing"]:
            return told
        time.sleep(0.02)
    raise AssertionError(f"not settled: {told}")


def found(server: Server, name: str, vector: list[float], **more: Any) -> list[dict[str, Any]]:
    body = {"vector": vector, "limit": 5, "score_threshold": -1, **more}
    answer = server.client.post(f"/v1/collections/{name}/query", json=body)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def rows_of(kind: str) -> np.ndarray:
    random = np.random.default_rng(3)
    rows = {
        "three": random.standard_normal((3, 64))[random.integers(0, 3, COUNT)],
        "equal": np.tile(random.standard_normal((1, 64)), (COUNT, 1)),
        "flat": random.standard_normal((COUNT, 2)),
    }[kind]
    return rows.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["three", "equal", "flat"])
def test_odd_catalogues_through_a_kill_and_down_to_nothing(server: StartServer, tmp_path: Path, kind: str) -> None:
    running = server()
    rows = rows_of(kind)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "ids.jsonl").write_text("".join(json.dumps({"id": f"t{n}"}) + "\n" for n in range(COUNT)))
    done = running.cli(
        *("import", str(tmp_path / "rows.npy"), "--ids", str(tmp_path / "ids.jsonl")),
        *("--collection", kind, "--model", "another network"),
    )
    assert done.returncode == 0, done.stderr
    path = f"/v1/collections/{kind}"
    told = settled(running, kind)
    assert told["index"]["vectors"] == COUNT and told["index"]["note"] == ""
    assert told["index_kind"] == ("flat" if kind == "flat" else "ivf-rabitq")

    def right() -> None:
        """As near as any, whichever of the equal ones came back."""
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for number in (0, 1, 7):
            scores = [each["score"] for each in found(running, kind, rows[number].tolist())]
            np.testing.assert_allclose(scores, np.sort(unit @ unit[number])[::-1][:5], atol=5e-4)

    right()
    for body in ('{"recall": NaN}', '{"recall": 0}', '{"recall": "high"}', '{"recall": 1.0001}', '{"recall": -1}'):
        answer = running.client.patch(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422) and "\n" not in answer.json()["detail"], (body, answer.text)
    for recall in (1.0, 0.5, 0.999):
        answer = running.client.patch(path, json={"recall": recall})
        assert answer.status_code == 200 and answer.json()["recall"] == recall
    running.kill()  # which is measuring, or building anew for the last of them, at that moment
    running.start()
    told = settled(running, kind)
    assert told["recall"] == 0.999 and told["index"]["vectors"] == COUNT
    if kind != "flat":
        assert told["index"]["effort"]["exact"] or told["index"]["recall"]["high"] >= 0.999
    right()
    for first in range(0, COUNT, DELETED_AT_ONCE):
        ids = [f"t{n}" for n in range(first, first + DELETED_AT_ONCE)]
        assert running.client.post(f"{path}/items/delete", json={"ids": ids}).status_code == 200
        if first == 9 * DELETED_AT_ONCE:
            assert all(int(each["id"][1:]) >= first for each in found(running, kind, rows[0].tolist()))
    told = settled(running, kind)
    assert told["index"]["vectors"] == 0 and told["index_kind"] == "flat"
    assert found(running, kind, rows[0].tolist()) == []
    assert running.stop() == 0
