"""Neighbors over HTTP and from the command line: the lists that a search of each item gives, after every change."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import Lookalike
from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server

PATH = "/v1/collections/default"
COUNT = 8


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    server = module_server()
    for number in range(COUNT):
        assert server.put("default", f"i{number}", jpeg(number)).status_code == 201
    return server


def asked(server: Server, limit: int) -> dict[str, list[dict[str, Any]]]:
    """Through the job, where there is one."""
    response = server.client.get(f"{PATH}/neighbors", params={"limit": limit})
    while response.status_code == 202:
        time.sleep(0.05)
        response = server.client.get(f"{PATH}/jobs/{response.json()['id']}/result")
    page = response.json()
    assert response.status_code == 200 and page["next_cursor"] is None, response.text
    return {each["id"]: each["neighbors"] for each in page["items"]}


def check(server: Server, lists: dict[str, list[dict[str, Any]]], limit: int) -> None:
    for id, near in lists.items():
        found = server.client.get(f"{PATH}/items/{id}/similar", params={"limit": limit, "score_threshold": -1}).json()
        assert [each["id"] for each in near] == [each["id"] for each in found["results"]]
        assert [each["score"] for each in near] == pytest.approx([each["score"] for each in found["results"]], abs=2e-4)


def test_each_list_is_what_a_search_gives_after_every_change(running: Server) -> None:
    lists = asked(running, 3)
    assert sorted(lists) == [f"i{n}" for n in range(COUNT)]
    check(running, lists, 3)
    running.put("default", "i3", jpeg(33))
    running.put("default", "new", jpeg(44))
    running.client.delete(f"{PATH}/items/i1")
    lists = asked(running, 3)
    assert "new" in lists and "i1" not in lists
    check(running, lists, 3)
    running.client.delete(f"{PATH}/items/new")
    running.put("default", "i1", jpeg(1))
    running.put("default", "i3", jpeg(3))


def test_what_does_not_fit_is_refused(running: Server) -> None:
    for query in ("limit=0", "limit=101", "cursor=x", f"cursor={'9' * 30}", "limit=99&cursor=1"):
        assert running.client.get(f"{PATH}/neighbors?{query}").status_code == 422, query
    assert running.client.get("/v1/collections/none/neighbors").status_code == 404


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_the_command_writes_the_same_lists_in_every_format(
    running: Server, tmp_path: Path, model_dir: Path, format: str
) -> None:
    lookalike = Lookalike(tmp_path, model_dir)
    file = tmp_path / f"near.{format}"
    told = lookalike.json("neighbors", "--limit", "4", "--out", file, "--data-dir", running.data_dir)
    assert told["items"] == COUNT
    wanted = {id: [(each["id"], each["score"]) for each in near] for id, near in asked(running, 4).items()}
    rows: list[dict[str, Any]]
    if format == "jsonl":
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        found = {line["id"]: [(each["id"], each["score"]) for each in line["neighbors"]] for line in lines}
    else:
        if format == "csv":
            with file.open(newline="") as text:
                rows = list(csv.DictReader(text))
        else:
            import pyarrow.parquet as parquet

            rows = parquet.read_table(file).to_pylist()
        found = {}
        for row in rows:
            found.setdefault(row["id"], []).append((row["neighbor"], float(row["score"])))
            assert int(row["rank"]) == len(found[row["id"]])
    assert found == wanted


def test_without_a_server_the_command_keeps_what_it_found(tmp_path: Path, model_dir: Path) -> None:
    import numpy as np

    lookalike = Lookalike(tmp_path, model_dir)
    np.save(tmp_path / "v.npy", np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32))
    lookalike.json("import", "v.npy", "--model", "foreign", "--collection", "v")
    first = lookalike.json("neighbors", "--collection", "v", "--out", "a.jsonl", "--limit", "5")
    assert first["items"] == 40 and list((tmp_path / "data" / "index").rglob("neighbours-5.npz"))
    for damaged in (tmp_path / "data" / "index").rglob("neighbours-5.npz"):
        damaged.write_bytes(damaged.read_bytes()[:-9])
    lookalike.json("neighbors", "--collection", "v", "--out", "b.jsonl", "--limit", "5")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    done = lookalike("neighbors", "--out", "near.txt")
    assert done.returncode == 1 and "must end in one of" in done.stderr
