"""Ready vectors, verify and snapshots: the same from a command that owns the directory and beside a running server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.open import open_catalogue
from tests.cli.test_cli import Lookalike, one_line, picture
from tests.conftest import StartServer

DIM = 8


@pytest.fixture
def bare(tmp_path: Path) -> Lookalike:
    return Lookalike(tmp_path, None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """50 vectors with ids and metadata beside them."""
    rng = np.random.default_rng(1)
    np.save(tmp_path / "vectors.npy", rng.normal(size=(50, DIM)).astype(np.float32))
    lines = [json.dumps({"id": f"v{n}", "metadata": {"n": n}}) for n in range(50)]
    (tmp_path / "vectors.jsonl").write_text("\n".join(lines))
    return tmp_path / "vectors.npy"


def counted(summary: dict[str, Any]) -> tuple[int, int, int]:
    return summary["created"], summary["replaced"], summary["unchanged"]


def stored(directory: Path, collection: str) -> list[tuple[str, Any]]:
    catalogue = open_catalogue(directory)
    try:
        page = catalogue.get(collection).scan(limit=1000)
        return [(item.id, item.metadata) for item in page.items]
    finally:
        catalogue.close()


def test_ready_vectors_are_imported_once_and_searched_by_vector(bare: Lookalike, file: Path) -> None:
    assert counted(bare.json("import", file, "--model", "other-net")) == (50, 0, 0)
    assert counted(bare.json("import", file, "--model", "other-net")) == (0, 0, 50)
    catalogue = open_catalogue(bare.data_dir)
    try:
        collection = catalogue.get("default")
        assert (collection.fingerprint, collection.count()) == ("other-net", 50)
        found = collection.search(np.load(file)[7], limit=1).matches[0]
        assert (found.item.id, found.item.metadata["n"]) == ("v7", 7)
        assert found.score == pytest.approx(1, abs=2e-4)
    finally:
        catalogue.close()


def test_vectors_of_one_model_never_enter_a_collection_of_another(bare: Lookalike, file: Path) -> None:
    bare.json("import", file, "--model", "net-a")
    one_line(bare("import", file, "--model", "net-b"))
    np.save(file.with_name("wide.npy"), np.ones((2, DIM + 1), np.float32))
    one_line(bare("import", file.with_name("wide.npy"), "--model", "net-a"))
    assert len(stored(bare.data_dir, "default")) == 50


def test_vectors_of_unknown_origin_need_the_model_they_fit(lookalike_with_model: Lookalike, file: Path) -> None:
    told = one_line(lookalike_with_model("import", file, "--collection", "unknown"))
    assert f"vectors of {DIM} numbers" in told
    assert "--model" in told


@pytest.fixture
def lookalike_with_model(tmp_path: Path, model_dir: Path) -> Lookalike:
    return Lookalike(tmp_path, model_dir)


def test_a_vector_that_is_none_is_told_in_one_line(bare: Lookalike, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.full((3, DIM), np.nan))
    (first, *others) = bare("import", tmp_path / "v.npy", "--model", "m").stderr.splitlines()
    assert (first, len(others)) == ("bad  v.npy row 0  a number of the vector is missing or not finite", 2)
    one_line(bare("import", tmp_path / "missing.parquet", "--model", "m"))


def test_a_snapshot_comes_back_on_another_machine_and_overwrites_nothing_unasked(bare: Lookalike, file: Path) -> None:
    bare("import", file, "--model", "m")
    snapshot = file.with_name("backup.tar")
    assert bare.json("snapshot", "create", snapshot)["items"] == 50
    assert "--force" in one_line(bare("snapshot", "create", snapshot))
    assert bare("snapshot", "create", snapshot, "--force").returncode == 0

    elsewhere = file.with_name("elsewhere")
    assert bare.json("snapshot", "restore", snapshot, "--data-dir", elsewhere)["items"] == 50
    assert stored(elsewhere, "default") == stored(bare.data_dir, "default")
    assert "--force" in one_line(bare("snapshot", "restore", snapshot, "--data-dir", elsewhere))
    assert bare("snapshot", "restore", snapshot, "--data-dir", elsewhere, "--force").returncode == 0


def test_a_damaged_snapshot_restores_nothing(bare: Lookalike, file: Path) -> None:
    bare("import", file, "--model", "m")
    snapshot = file.with_name("backup.tar")
    bare("snapshot", "create", snapshot)
    content = bytearray(snapshot.read_bytes())
    content[len(content) // 2] ^= 0xFF
    snapshot.write_bytes(content)
    one_line(bare("snapshot", "restore", snapshot, "--data-dir", file.with_name("elsewhere")))
    assert not (file.with_name("elsewhere") / "catalogue.db").exists()


def test_commands_on_a_catalogue_make_none_where_there_is_none(bare: Lookalike) -> None:
    for words in (["verify"], ["snapshot", "create", "x.tar"]):
        assert "there is no catalogue" in one_line(bare(*words))
    assert not bare.data_dir.exists()


def test_verify_finds_a_flipped_bit_in_an_original(lookalike_with_model: Lookalike, tmp_path: Path) -> None:
    picture(tmp_path / "album/a.png", 1)
    assert lookalike_with_model("import", tmp_path / "album").returncode == 0
    whole = lookalike_with_model.json("verify")
    assert (whole["items"], whole["findings"]) == (1, [])
    (original,) = (path for path in (lookalike_with_model.data_dir / "originals").rglob("*") if path.is_file())
    content = bytearray(original.read_bytes())
    content[-20] ^= 1
    original.write_bytes(content)
    (finding,) = lookalike_with_model.json("verify", code=1)["findings"]
    assert original.name in finding["subject"]
    shown = lookalike_with_model("verify")
    assert shown.returncode == 1
    assert original.name in shown.stdout


def test_beside_a_running_server_they_go_through_it(server: StartServer, file: Path) -> None:
    running = server()
    picture(file.with_name("query.png"), 1)
    running.put("default", "a", file.with_name("query.png").read_bytes()).raise_for_status()
    beside = Lookalike(file.parent, None, **running.env)

    assert counted(beside.json("import", file, "--collection", "ready", "--model", "m")) == (50, 0, 0)
    asked = {"vector": np.load(file)[3].tolist(), "limit": 1}
    found = running.client.post("/v1/collections/ready/query", json=asked).json()
    assert (found["results"][0]["id"], found["results"][0]["metadata"]) == ("v3", {"n": 3})
    assert beside.json("verify")["findings"] == []
    snapshot = beside.json("snapshot", "create", "backup.tar")  # a path relative to the command, not to the server
    assert (snapshot["items"], snapshot["originals"]) == (51, 1)
    assert Path(snapshot["file"]) == file.with_name("backup.tar")
    assert "--force" in one_line(beside("snapshot", "create", "backup.tar"))
    assert "more than" in one_line(
        beside("import", file, "--ids", with_a_line_more(file), "--model", "m", "-c", "ready")
    )
    # Restoring under a running server is out of the question, forced or not.
    assert "in use" in one_line(beside("snapshot", "restore", "backup.tar", "--force"))


def with_a_line_more(file: Path) -> Path:
    longer = file.with_name("longer.txt")
    longer.write_text("\n".join(f"v{n}" for n in range(51)))
    return longer


def test_without_the_notes_token_the_routes_of_commands_are_not_there(server: StartServer) -> None:
    running = server()
    for token in (None, "", "Bearer", "Bearer wrong", "Basic wrong"):
        headers = {} if token is None else {"Authorization": token}
        for path in ("snapshot", "verify", "vectors"):
            answer = running.client.post(f"/admin/{path}", json={"file": "/tmp/x.tar"}, headers=headers)
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
    assert "/admin" not in running.client.get("/openapi.json").text
