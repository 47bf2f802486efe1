"""Pictures that a table names by address: fetched by the import, and a second time only where they have changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.fetching.fetcher import Fetcher
from service.fetching.urls import FetchHosts
from service.imports.engine import run
from service.imports.sources.opening import open_pictures
from service.imports.tally import Tally
from tests.harness.shop import Reply, Shop, shop
from tests.harness.targets import Memory


@pytest.fixture
def there() -> Iterator[Shop]:
    with shop() as opened:
        yield opened


def import_of(file: Path, target: Memory, *, enabled: bool = True) -> Tally:
    async def work() -> Tally:
        fetcher = Fetcher(enabled=enabled, hosts=FetchHosts.of("127.0.0.1"))
        try:
            with closing(open_pictures(file)) as pictures:
                return await run(pictures.sources(), target, total=pictures.count, bad=pictures.bad, fetcher=fetcher)
        finally:
            await fetcher.close()

    return asyncio.run(work())


def written(file: Path, rows: list[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_every_picture_goes_in_and_each_failure_is_named(there: Shop, tmp_path: Path) -> None:
    good = {f"/{n}.jpg": [Reply(f"picture {n}".encode())] for n in range(100)}
    there.replies.update(good)
    there.replies["/7.jpg"] = [Reply(status=404)]
    there.replies["/8.jpg"] = [Reply(status=503), Reply(b"late")]
    there.replies["/9.jpg"] = [Reply(bytes(2000))]
    there.replies["/10.jpg"] = [Reply(b"bad <html>", headers={"Content-Type": "text/html"})]
    there.replies["/11.jpg"] = [Reply(status=302, headers={"Location": "/12.jpg"})]
    there.replies["/13.jpg"] = [Reply(status=302, headers={"Location": "http://10.0.0.1/"})]
    rows: list[dict[str, object]] = [{"id": f"p{n}", "image": there.url(f"/{n}.jpg"), "n": n} for n in range(100)]
    target = Memory()
    tally = import_of(written(tmp_path / "t.jsonl", rows), target)
    assert (tally.created, tally.total) == (96, 100)
    assert [(bad.row, bad.id, bad.slug) for bad in tally.bad] == [
        (8, "p7", "url-failed"),
        (10, "p9", "content-too-large"),
        (11, "p10", "image-undecodable"),
        (14, "p13", "url-refused"),
    ]
    assert target.items["p11"] == (b"picture 12", {"n": 11})
    assert target.items["p8"] == (b"late", {"n": 8})


def test_an_unchanged_picture_is_neither_sent_nor_embedded_again(there: Shop, tmp_path: Path) -> None:
    for n in range(5):
        there.replies[f"/{n}"] = [Reply(f"picture {n}".encode(), headers={"ETag": f'"{n}"'})]
    rows: list[dict[str, object]] = [{"id": f"p{n}", "image": there.url(f"/{n}"), "n": n} for n in range(5)]
    file, target = tmp_path / "t.jsonl", Memory()
    assert import_of(written(file, rows), target).created == 5
    there.replies["/1"] = [Reply(b"new", headers={"ETag": '"new"'})]
    rows[2]["n"] = "other"
    del target.items["p3"]
    there.asked.clear()
    tally = import_of(written(file, rows), target)
    assert (tally.created, tally.replaced, tally.unchanged, target.embedded) == (1, 2, 2, 7)
    assert target.items["p2"] == (b"picture 2", {"n": "other"})
    assert target.items["p1"][0] == b"new"
    asked = {path: headers.get("if-none-match") for path, headers in there.asked}
    assert asked == {"/0": '"0"', "/1": '"1"', "/2": '"2"', "/3": None, "/4": '"4"'}


def test_of_two_rows_with_one_id_the_first_counts_however_slow_it_is(there: Shop, tmp_path: Path) -> None:
    there.replies = {"/slow": [Reply(b"first", pause=0.3)], "/fast": [Reply(b"second")]}
    rows: list[dict[str, object]] = [{"id": "x", "image": there.url(path)} for path in ("/slow", "/fast")]
    target = Memory()
    tally = import_of(written(tmp_path / "t.jsonl", rows), target)
    assert target.items["x"][0] == b"first"
    assert [(bad.row, bad.id, bad.slug) for bad in tally.bad] == [(2, "x", "duplicate-id")]


def test_nothing_is_fetched_while_that_is_off(there: Shop, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": "x", "image": there.url("/a")}]
    tally = import_of(written(tmp_path / "t.jsonl", rows), Memory(), enabled=False)
    assert [(bad.slug, "LOOKALIKE_FETCH_URLS" in bad.reason) for bad in tally.bad] == [("url-refused", True)]
    assert there.asked == []
