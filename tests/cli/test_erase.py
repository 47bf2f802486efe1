"""`lookalike erase`: what is erased is in no file of the data directory; the same beside a running server."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from index.errors import RecordNotFound
from index.open import open_catalogue
from service.erasing import DAY, Wish, due, revoke
from service.errors import InvalidRequest
from tests.cli.test_cli import Lookalike, one_line
from tests.conftest import StartServer
from tests.harness.pictures import jpeg

DIM = 8


@pytest.fixture
def bare(tmp_path: Path) -> Lookalike:
    return Lookalike(tmp_path, None)


def among(directory: Path, *wanted: bytes) -> list[str]:
    """Files of the directory that hold one of these bytes; a file's name counts as well."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    held = ((path, path.name.encode() + path.read_bytes()) for path in files)
    return [str(path.relative_to(directory)) for path, content in held if any(each in content for each in wanted)]


def imported(bare: Lookalike, *collections: str) -> None:
    np.save(bare.folder / "v.npy", np.random.default_rng(2).standard_normal((40, DIM)).astype(np.float32))
    lines = [json.dumps({"id": f"person-{n}", "metadata": {"name": f"whispered {n:03}"}}) for n in range(40)]
    (bare.folder / "v.jsonl").write_text("\n".join(lines))
    for name in collections:
        bare.json("import", "v.npy", "--model", "m", "-c", name)


def test_items_a_collection_and_snapshots_go_for_good(bare: Lookalike) -> None:
    imported(bare, "default", "shoes")
    bare.json("snapshot", "create", "before.tar")
    bare.json("snapshot", "create", "moved.tar")
    (bare.folder / "moved.tar").write_text("no snapshot of ours any more")
    assert "--yes" in one_line(bare("erase", "--collection", "shoes"))
    assert "no collection" in one_line(bare("erase", "--collection", "nowhere", "--yes"))
    done = bare.json("erase", "--collection", "default", "--id", "person-7", "--id", "person-8", "--id", "nobody")
    assert (done["deleted"], done["left"]) == (2, [])
    assert done["snapshots"] == [str(bare.folder / "before.tar")], "what may still hold it is named"
    assert among(bare.data_dir, b"whispered 006") and among(bare.data_dir, b"person-7"), "in the other collection"
    done = bare.json("erase", "--collection", "shoes", "--snapshots", "--yes")
    assert (done["snapshots_removed"], done["snapshots"]) == (1, [])
    assert not (bare.folder / "before.tar").exists() and (bare.folder / "moved.tar").exists()
    assert among(bare.data_dir, b"whispered 007", b"person-7", b"person-8", b"whispered 008") == []
    assert bare.json("verify")["items"] == 38


def test_what_is_asked_for_is_told_before_anything_goes(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="name the collection"):
        Wish(ids=("a",))
    catalogue = open_catalogue(tmp_path)
    with pytest.raises(InvalidRequest, match="name no other one"):
        revoke(catalogue, Wish(collection="shoes", key="k"))
    with pytest.raises(RecordNotFound):
        revoke(catalogue, Wish(key="k"))
    catalogue.close()


def test_when_it_is_due() -> None:
    """Days after the first deletion that waits; a clock set back by more than a day does not put it off."""
    assert not due(None, 7, DAY) and not due(0.0, 0, 99 * DAY)
    assert not due(0.0, 7, 6.9 * DAY) and due(0.0, 7, 7 * DAY)
    assert not due(0.5 * DAY, 7, 0.0) and due(2 * DAY, 7, 0.0)


@pytest.mark.slow
def test_beside_a_running_server_with_its_keys(server: StartServer) -> None:
    """A customer's key goes with its collection, its items and its traces; a picture and its metadata leave no byte."""
    running = server(env={"LOOKALIKE_MODEL": "histogram"})
    beside = Lookalike(running.data_dir.parent, None, **running.env)
    boss = beside.json("keys", "create", "--scope", "admin")
    mine = beside.json("keys", "create", "--scope", "write", "--collection", "mine", "--name", "Jo Doe of Doeville")
    running.client.headers["X-API-Key"] = boss["key"]
    running.client.put("/v1/collections/mine").raise_for_status()
    with running.new_client(headers={"X-API-Key": mine["key"]}) as owner:
        for n in range(6):
            about = {"metadata": json.dumps({"name": f"whispered {n:03}"})}
            path = f"/v1/collections/mine/items/person-{n}"
            owner.put(path, data=about, files={"image": jpeg(n)}).raise_for_status()
            running.put("default", f"other-{n}", jpeg(n), '{"name": "kept"}').raise_for_status()
        thumbnail = owner.get("/v1/collections/mine/items/person-5/thumbnail").content
        only = jpeg(77)
        files = {"image": only}
        owner.put("/v1/collections/mine/items/person-only", files=files).raise_for_status()
        own = owner.get("/v1/collections/mine/items/person-only/thumbnail").content
        search = owner.post("/v1/collections/mine/search", files=files)
        assert search.json()["results"]
        owner.delete("/v1/collections/mine/items/person-4").raise_for_status()

        done = beside.json("erase", "--key", mine["id"], "--yes")
        assert done["left"] == []
        assert owner.get("/v1/collections/mine").status_code == 401
    assert running.client.get("/v1/collections/mine").status_code == 404
    gone = (only, own, hashlib.sha256(only).hexdigest().encode(), b"whispered 005", b"person-only", b"Jo Doe")
    assert among(running.data_dir, *gone, mine["id"].encode()) == []
    # The same picture in another collection stays there.
    assert among(running.data_dir, jpeg(5), thumbnail)
    assert running.client.get("/v1/collections/default").json()["count"] == 6
    lines = beside.json("audit")["lines"]
    assert [line["action"] for line in lines if line["who"] == "erased"].count("put_item") == 7
    assert lines[-1]["action"] == "erase" and beside.json("verify")["findings"] == []
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        httpx.post(f"{running.url}/admin/erase", json={}, trust_env=False).raise_for_status()
    running.stop()
    opened = open_catalogue(running.data_dir)
    assert opened.erase_due() is None
    opened.close()
