"""Items over real HTTP: what is put can be got, changed, listed, found and deleted, at once and for good."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from tests.conftest import StartServer
from tests.harness.pictures import encoded, jpeg, pixels
from tests.harness.serving import Server

BASE = "/v1/collections"


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    return module_server()


@pytest.fixture
def fresh(running: Server, request: pytest.FixtureRequest) -> str:
    """An empty collection of this test's own."""
    name = f"c{abs(hash(request.node.nodeid)) % 10**9}"
    assert running.client.put(f"{BASE}/{name}").status_code == 201
    return name


def embedded(running: Server) -> float:
    """Pictures embedded since the server started."""
    text = running.client.get("/metrics").text
    (line,) = [each for each in text.splitlines() if each.startswith("lookalike_embedded_images_total ")]
    return float(line.split()[1])


def test_put_creates_replaces_and_leaves_the_unchanged_alone(running: Server, fresh: str) -> None:
    first = running.put(fresh, "shirt:1", jpeg(1), '{"price": 3}')
    assert first.status_code == 201
    item = first.json()
    assert item["id"] == "shirt:1" and item["metadata"] == {"price": 3}
    assert {key: item["image"][key] for key in ("width", "height", "format", "bytes")} == {
        "width": 320,
        "height": 240,
        "format": "jpeg",
        "bytes": len(jpeg(1)),
    }
    before = embedded(running)
    again = running.put(fresh, "shirt:1", jpeg(1), '{"price": 3}')
    assert (again.status_code, again.json()) == (200, item), "nothing changed, not even updated_at"
    reworded = running.put(fresh, "shirt:1", jpeg(1), '{"price": 4}')
    assert (reworded.status_code, reworded.json()["metadata"]) == (200, {"price": 4})
    assert embedded(running) == before, "the same bytes were embedded again"
    replaced = running.put(fresh, "shirt:1", jpeg(2))
    assert replaced.status_code == 200 and replaced.json()["image"]["sha256"] != item["image"]["sha256"]
    assert replaced.json()["metadata"] == {}, "metadata left out means empty"
    assert replaced.json()["created_at"] == item["created_at"]
    assert running.client.get(f"{BASE}/{fresh}").json()["count"] == 1


def test_new_metadata_alone_keeps_thumbnail_and_vector(running: Server, fresh: str) -> None:
    running.put(fresh, "a", jpeg(1))
    thumbnail = running.client.get(f"{BASE}/{fresh}/items/a/thumbnail").content
    running.put(fresh, "a", jpeg(1), '{"new": true}')
    assert running.client.get(f"{BASE}/{fresh}/items/a/thumbnail").content == thumbnail
    found = running.search(fresh, jpeg(1)).json()["results"]
    assert found[0]["id"] == "a" and found[0]["score"] > 0.999 and found[0]["metadata"] == {"new": True}


def test_metadata_that_is_equal_in_python_alone_is_a_change(running: Server, fresh: str) -> None:
    for metadata in ('{"v": 1}', '{"v": true}', '{"v": 1.0}'):
        running.put(fresh, "a", jpeg(1), metadata)
        stored = running.client.get(f"{BASE}/{fresh}/items/a").text
        assert metadata[6:-1] in stored, stored
    answer = running.client.get(f"{BASE}/{fresh}/items", params={"filter": '{"must":[{"key":"v","match":true}]}'})
    assert answer.json()["items"] == []


def test_two_pictures_racing_for_one_id_leave_one_whole_item(running: Server, fresh: str) -> None:
    pictures = [jpeg(1), jpeg(2)]
    shas = [hashlib.sha256(each).hexdigest() for each in pictures]
    for round_ in range(6):
        with ThreadPoolExecutor(4) as pool:
            done = [
                pool.submit(running.put, fresh, "a", pictures[number % 2], f'{{"n": {round_ * 10 + number}}}')
                for number in range(4)
            ]
        assert {each.result().status_code for each in done} <= {200, 201}
        item = running.client.get(f"{BASE}/{fresh}/items/a").json()
        which = shas.index(item["image"]["sha256"])
        best = running.search(fresh, pictures[which], score_threshold=-1).json()["best_score"]
        assert best == pytest.approx(1, abs=2e-4), "the stored vector is another picture's"


def test_an_item_that_is_being_replaced_can_be_read_all_the_while(running: Server, fresh: str) -> None:
    for id, picture in (("a", jpeg(1)), ("b", jpeg(3))):
        running.put(fresh, id, picture).raise_for_status()
    path = f"{BASE}/{fresh}/items/a"
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [running.put(fresh, "a", jpeg(1 + number % 2)) for number in range(30)])
        refused = []
        while not writing.done():
            query = {"positive": ["a"], "negative": ["b"]}
            answers = (
                running.client.get(f"{path}/thumbnail"),
                running.client.get(f"{path}/similar"),
                running.client.post(f"{BASE}/{fresh}/query", json=query),
            )
            refused += [answer.text for answer in answers if answer.status_code != 200]
    assert refused == []


def test_patch_merges_as_rfc_7396(running: Server, fresh: str) -> None:
    running.put(fresh, "a", jpeg(1), '{"keep": 1, "gone": 2, "deep": {"x": 1, "y": 2}}')
    path = f"{BASE}/{fresh}/items/a"
    patched = running.client.patch(path, json={"metadata": {"gone": None, "deep": {"x": None, "z": 3}, "new": [1]}})
    wanted = {"keep": 1, "deep": {"y": 2, "z": 3}, "new": [1]}
    assert (patched.status_code, patched.json()["metadata"]) == (200, wanted)
    assert running.client.get(path).json()["metadata"] == wanted


def test_delete_is_seen_at_once(running: Server, fresh: str) -> None:
    running.put(fresh, "a", jpeg(1))
    assert running.search(fresh, jpeg(1)).json()["no_match"] is False
    assert running.client.delete(f"{BASE}/{fresh}/items/a").status_code == 204
    answer = running.search(fresh, jpeg(1)).json()
    assert (answer["results"], answer["no_match"], answer["best_score"]) == ([], True, None)
    assert running.client.delete(f"{BASE}/{fresh}/items/a").status_code == 404
    assert running.client.get(f"{BASE}/{fresh}/items/a/thumbnail").status_code == 404


def test_delete_by_list_and_by_filter(running: Server, fresh: str) -> None:
    for number in range(6):
        running.put(fresh, f"i{number}", jpeg(number), f'{{"n": {number}}}')
    path = f"{BASE}/{fresh}/items/delete"
    assert running.client.post(path, json={"ids": ["i0", "i1", "none"]}).json() == {"deleted": 2}
    wanted = {"must": [{"key": "n", "range": {"gte": 4}}]}
    assert running.client.post(path, json={"filter": wanted}).json() == {"deleted": 2}
    left = running.client.get(f"{BASE}/{fresh}/items").json()["items"]
    assert [item["id"] for item in left] == ["i2", "i3"]


def test_lists_come_in_pages_and_pass_filters(running: Server, fresh: str) -> None:
    for number in range(5):
        running.put(fresh, f"i{number}", jpeg(number), f'{{"odd": {"true" if number % 2 else "false"}}}')
    path = f"{BASE}/{fresh}/items"
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = running.client.get(path, params=params).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == [f"i{number}" for number in range(5)]
    odd = running.client.get(path, params={"filter": '{"must":[{"key":"odd","match":true}]}'}).json()
    assert [item["id"] for item in odd["items"]] == ["i1", "i3"]


def test_thumbnails_are_webp_of_256_with_an_etag(running: Server, fresh: str) -> None:
    running.put(fresh, "a", jpeg(1, (1200, 800)))
    path = f"{BASE}/{fresh}/items/a/thumbnail"
    response = running.client.get(path)
    assert response.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(response.content)) as shown:
        assert (shown.format, shown.size) == ("WEBP", (256, 171))
    etag = response.headers["etag"]
    again = running.client.get(path, headers={"if-none-match": f'"other", W/{etag}'})
    assert (again.status_code, again.content) == (304, b"")
    running.put(fresh, "a", jpeg(2, (1200, 800)))
    assert running.client.get(path, headers={"if-none-match": etag}).status_code == 200


def test_exif_orientation_is_applied_to_size_and_thumbnail(running: Server, fresh: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    running.put(fresh, "a", encoded(pixels(1), "JPEG", exif=exif))
    item = running.client.get(f"{BASE}/{fresh}/items/a").json()
    assert (item["image"]["width"], item["image"]["height"]) == (240, 320)


def test_items_outlive_a_restart(server: StartServer) -> None:
    one = server()
    for number in range(3):
        one.put("default", f"i{number}", jpeg(number), f'{{"n": {number}}}')
    one.client.patch(f"{BASE}/default", json={"score_threshold": 0.99})
    items = one.client.get(f"{BASE}/default/items").json()
    assert one.stop() == 0
    one.start()
    assert one.client.get(f"{BASE}/default/items").json() == items
    answer = one.search("default", jpeg(2)).json()
    assert [result["id"] for result in answer["results"]] == ["i2"]
    assert (answer["score_threshold"], answer["threshold_source"]) == (0.99, "collection")
