"""Pictures from addresses over HTTP: a query by `image_url`, and a feed as a job, against a shop's server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server
from tests.harness.shop import Reply, Shop, shop


@pytest.fixture(scope="module")
def there() -> Iterator[Shop]:
    with shop() as opened:
        yield opened


@pytest.fixture(scope="module")
def fetching(module_server: StartServer, there: Shop) -> Server:
    hosts = f"127.0.0.1:{there.port}"
    return module_server(env={"LOOKALIKE_FETCH_URLS": "true", "LOOKALIKE_FETCH_HOSTS": hosts})


def import_of(server: Server, name: str, text: str) -> dict[str, object]:
    answer = server.client.post("/v1/collections/default/imports", files={"file": (name, text.encode())})
    assert answer.status_code == 202, answer.text
    path = f"/v1/collections/default/imports/{answer.json()['id']}"
    for _ in range(600):
        job: dict[str, object] = server.client.get(path).json()
        if job["state"] not in ("queued", "running"):
            errors = server.client.get(f"{path}/errors").text
            return {**job, "errors": [json.loads(line) for line in errors.splitlines()]}
        time.sleep(0.1)
    raise AssertionError(job)


def test_a_feed_of_a_shop_goes_in_and_again_only_what_has_changed(fetching: Server, there: Shop) -> None:
    for n in range(4):
        there.replies[f"/{n}.png"] = [Reply(jpeg(n), headers={"ETag": f'"{n}"'}, pause=0.1 * n)]
    there.replies["/moved.png"] = [Reply(status=301, headers={"Location": "/3.png"})]
    there.replies["/late.png"] = [Reply(status=503, headers={"Retry-After": "1"}), Reply(jpeg(90))]
    there.replies["/page.png"] = [Reply(b"<html>Not found</html>", headers={"Content-Type": "text/html"})]
    images = {
        "a": ["/0.png", "/1.png"],
        "b": ["/2.png"],
        "c": ["/moved.png"],
        "d": ["/late.png"],
        "e": ["/page.png"],
        "f": ["/gone.png"],
    }
    rows = [
        f"{handle},{handle.upper()},{number if number == 1 else ''},{there.url(path)},{number}"
        for handle, paths in images.items()
        for number, path in enumerate(paths, 1)
    ]
    feed = "\n".join(["Handle,Title,Variant Price,Image Src,Image Position", *rows])
    done = import_of(fetching, "products.csv", feed)
    assert (done["state"], done["done"], done["failed"]) == ("done", 5, 2), done
    errors = done["errors"]
    assert isinstance(errors, list)
    assert sorted((row["row"], row["id"], row["slug"]) for row in errors) == [
        (7, "e", "unsupported-image"),
        (8, "f", "url-failed"),
    ]
    item = fetching.client.get("/v1/collections/default/items/a:2").json()
    assert item["metadata"] == {"title": "A", "variant_price": 1.0, "product_id": "a"}
    there.asked.clear()
    again = import_of(fetching, "products.csv", f"{feed}\n")  # other bytes: another job
    assert (again["done"], again["unchanged"], again["failed"]) == (0, 5, 2)
    asked = {path: headers.get("if-none-match") for path, headers in there.asked}
    assert (asked["/0.png"], asked["/1.png"], asked["/2.png"]) == ('"0"', '"1"', '"2"')


def test_a_query_by_address_finds_what_is_there_and_says_what_is_not(fetching: Server, there: Shop) -> None:
    there.replies["/q.png"] = [Reply(jpeg(64))]
    path = "/v1/collections/default/query"
    assert fetching.client.post(path, json={"image_url": there.url("/q.png")}).status_code == 200
    for url, status, slug in (
        (there.url("/nothing"), 502, "url-failed"),
        ("http://127.0.0.1/a.png", 422, "url-refused"),
        ("http://169.254.169.254/latest/meta-data", 422, "url-refused"),
        ("http://2130706433/", 422, "url-refused"),
    ):
        answer = fetching.client.post(path, json={"image_url": url})
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    queries = {"queries": [{"image_url": there.url("/nothing")}, {"image_url": there.url("/q.png")}]}
    responses = fetching.client.post(f"{path}/batch", json=queries).json()["responses"]
    assert [each.get("type") for each in responses] == ["/problems/url-failed", None]
