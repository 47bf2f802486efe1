"""The export over HTTP and from the command line, beside a running server and without one: the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_cli import Lookalike
from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server

PATH = "/v1/collections/default"
COUNT = 6


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    server = module_server(env={"LOOKALIKE_KEEP_ORIGINALS": "true"})
    for number in range(COUNT):
        metadata = {"n": number, "size": "42", "tags": ["a", {"b": None}], "name": "naïve"}
        assert server.put("default", f"i{number}", jpeg(number), json.dumps(metadata)).status_code == 201
    return server


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "zip"])
def test_a_collection_comes_back_from_its_file_with_its_scores(
    running: Server, tmp_path: Path, model_dir: Path, format: str
) -> None:
    """Written through the server, imported into a directory without one, and written from there again."""
    lookalike = Lookalike(tmp_path, model_dir)
    there: list[str | Path] = ["--data-dir", running.data_dir]
    file = tmp_path / f"all.{format}"
    told = lookalike.json("export", "--out", file, *there)
    assert (told["items"], told["left_out"], told["bytes"]) == (COUNT, [], file.stat().st_size)
    assert lookalike.json("import", file)["failed"] == 0
    again = tmp_path / f"again.{format}"
    assert lookalike.json("export", "--out", again)["items"] == COUNT
    if format == "zip":
        assert again.stat().st_size == file.stat().st_size
    else:
        assert again.read_bytes() == file.read_bytes()
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(jpeg(3))
    asked: list[str | Path] = ["search", picture, "--score-threshold", "-1"]
    ours, theirs = lookalike.json(*asked)["results"], lookalike.json(*asked, *there)["results"]
    # What was stored from the very bytes of the query scores 1, and a vector alone what it is.
    assert [(each["id"], each["metadata"]) for each in ours] == [(each["id"], each["metadata"]) for each in theirs]
    assert [each["score"] for each in ours] == pytest.approx([each["score"] for each in theirs], abs=2e-4)
    assert [each["score"] for each in ours[1:]] == [each["score"] for each in theirs[1:]]


def test_the_answer_is_a_file_to_be_saved(running: Server) -> None:
    plain = running.client.get(f"{PATH}/export")
    lines = [json.loads(line) for line in plain.text.splitlines()]
    assert [line["id"] for line in lines] == [f"i{n}" for n in range(COUNT)] and len(lines[0]["vector"]) == 2048
    assert plain.headers["content-disposition"] == 'attachment; filename="default.jsonl"'
    some = running.client.get(
        f"{PATH}/export", params={"vectors": "false", "filter": '{"must":[{"key":"n","match":2}]}'}
    )
    assert [json.loads(line) for line in some.text.splitlines()] == [{"id": "i2", "metadata": lines[2]["metadata"]}]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"format": "xml"}, 422),
        ({"vectors": "perhaps"}, 422),
        ({"filter": "{"}, 422),
        ({"limit": "1"}, 422),
    ],
)
def test_what_does_not_fit_is_refused_before_a_byte_is_sent(
    running: Server, query: dict[str, str], status: int
) -> None:
    assert running.client.get(f"{PATH}/export", params=query).status_code == status
    assert running.client.get("/v1/collections/none/export").status_code == 404


def test_what_cannot_be_written_ends_in_one_line(running: Server, tmp_path: Path, model_dir: Path) -> None:
    lookalike = Lookalike(tmp_path, model_dir)
    there = ["--data-dir", running.data_dir]
    for arguments, words in (
        (["--out", "all.xlsx", *there], "must end in one of"),
        (["--out", "none/all.csv", *there], "No such file"),
        (["--out", "all.csv", "--collection", "none", *there], "no collection"),
        (["--out", "all.csv", "--filter", "[", *there], "JSON"),
        (["--out", "all.csv"], "there is no catalogue"),
    ):
        done = lookalike("export", *arguments)
        assert done.returncode != 0 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not [path for path in tmp_path.iterdir() if "all" in path.name]
