"""Searches over real HTTP: every way to ask, thresholds and their source, "no similar images" as the contract says."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import StartServer
from tests.harness.pictures import encoded, jpeg, pixels
from tests.harness.serving import Server

COUNT = 12
PATH = "/v1/collections/default"


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    server = module_server()
    for number in range(COUNT):
        metadata = f'{{"n": {number}, "brand": "{"acme" if number % 3 else "other"}", "size": ["S", "M"]}}'
        assert server.put("default", f"i{number}", jpeg(number), metadata).status_code == 201
    return server


def query(running: Server, **asked: Any) -> dict[str, Any]:
    response = running.client.post(f"{PATH}/query", json={"score_threshold": -1, **asked})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [result["id"] for result in answer["results"]]


def vectors(running: Server, *pictures: bytes) -> np.ndarray[Any, Any]:
    texts = ["data:image/jpeg;base64," + base64.b64encode(each).decode() for each in pictures]
    answer = running.client.post("/v1/embeddings", json={"input": texts}).json()
    return np.array([each["embedding"] for each in answer["data"]])


def test_an_upload_finds_itself_first_with_a_cosine_of_one(running: Server) -> None:
    answer = running.search("default", jpeg(4), limit=3, score_threshold=-1).json()
    assert ids(answer)[0] == "i4" and answer["results"][0]["score"] == pytest.approx(1, abs=2e-4)
    assert answer["results"][0]["thumbnail_url"] == f"{PATH}/items/i4/thumbnail"
    assert answer["best_score"] == answer["results"][0]["score"]
    assert (answer["no_match"], answer["message"], answer["filtered_count"]) == (False, None, COUNT)
    assert "group" not in answer["results"][0]
    took = answer["took_ms"]
    assert took["total"] >= took["decode"] + took["embed"] + took["search"] - 0.01
    assert answer["model"].startswith("resnet50")


WAYS: dict[str, Callable[[Server, bytes], httpx.Response]] = {
    "form": lambda server, data: server.search("default", data, score_threshold=1, limit=100),
    "whole crop": lambda server, data: server.search("default", data, score_threshold=1, crop="0,0,1,1"),
    "raw": lambda server, data: server.client.post(
        f"{PATH}/search?score_threshold=1", content=data, headers={"Content-Type": "image/jpeg"}
    ),
    "base64": lambda server, data: server.client.post(
        f"{PATH}/query", json={"image_base64": base64.encodebytes(data).decode(), "score_threshold": 1}
    ),
    "in a group": lambda server, data: server.search("default", data, score_threshold=1, group_by="n"),
    "filtered": lambda server, data: server.search(
        "default", data, score_threshold=1, filter='{"must":[{"key":"n","range":{"gte":0}}]}'
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_stored_picture_is_found_by_its_bytes_with_a_threshold_of_one(running: Server, way: str) -> None:
    for number in range(COUNT):
        answer = WAYS[way](running, jpeg(number)).json()
        assert [(each["id"], each["score"]) for each in answer["results"]] == [(f"i{number}", 1.0)]
        assert (answer["best_score"], answer["no_match"]) == (1.0, False)


def test_the_same_picture_saved_again_and_a_part_of_it_score_what_they_are(running: Server) -> None:
    cut = running.search("default", jpeg(4), score_threshold=-1, limit=1, crop="0,0,0.5,0.5").json()
    again = running.search("default", jpeg(4) + b"\0", score_threshold=-1, limit=1).json()
    assert cut["best_score"] < 1 and again["best_score"] == pytest.approx(1, abs=2e-4)


def noisy(colour: int, spread: int) -> Image.Image:
    grain = np.random.default_rng(1).integers(colour - spread, colour + spread + 1, (200, 300, 3))
    return Image.fromarray(grain.astype(np.uint8))


PLAIN = {
    "white": encoded(Image.new("RGB", (300, 200), "white"), "PNG"),
    "black": encoded(Image.new("RGB", (300, 200)), "JPEG"),
    "a colour": encoded(Image.new("RGB", (64, 64), "#a03050"), "WEBP", lossless=True),
    "one pixel": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
    "transparent": encoded(Image.new("RGBA", (100, 100), (9, 99, 9, 0)), "PNG"),
    "grain": encoded(noisy(128, 6), "PNG"),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_picture_without_content_is_like_nothing(running: Server, kind: str) -> None:
    """Whatever its vector scores, with a threshold that everything reaches."""
    answer = running.search("default", PLAIN[kind], score_threshold=-1).json()
    assert (answer["results"], answer["no_match"]) == ([], True)
    assert answer["message"].startswith("no similar images: ")
    assert -1 <= answer["best_score"] <= 1 and answer["filtered_count"] == COUNT


def test_a_part_without_content_is_like_nothing_and_the_whole_is_not(running: Server) -> None:
    half = pixels(3)
    half.paste("white", (half.width // 2, 0, half.width, half.height))
    data = encoded(half, "PNG")
    blank = running.search("default", data, score_threshold=-1, crop="0.6,0,1,1").json()
    whole = running.search("default", data, score_threshold=-1).json()
    assert blank["no_match"] and not whole["no_match"] and len(whole["results"]) == 10


def test_a_stored_picture_without_content_is_found_by_its_own_file_alone(running: Server) -> None:
    assert running.client.put("/v1/collections/blank").status_code == 201
    for name in ("white", "black"):
        assert running.put("blank", name, PLAIN[name]).status_code == 201
    found = running.search("blank", PLAIN["white"], score_threshold=-1).json()
    assert [(each["id"], each["score"]) for each in found["results"]] == [("white", 1.0)] and not found["no_match"]
    assert running.search("blank", PLAIN["one pixel"], score_threshold=-1).json()["no_match"]


def test_grouping_by_a_key_that_no_item_has_says_so(running: Server) -> None:
    for key in ("colour", "brand.name", "size"):
        answer = query(running, id="i0", group_by=key)
        assert (answer["results"], answer["no_match"]) == ([], False)
        assert "group_by" in answer["message"]
    assert query(running, id="i0", group_by="brand")["message"] is None
    none = query(running, id="i0", group_by="colour", score_threshold=1)
    assert (none["no_match"], none["message"]) == (True, "no similar images")


def test_scores_are_the_cosines_of_the_embeddings(running: Server) -> None:
    stored = vectors(running, *(jpeg(number) for number in range(COUNT)))
    assert np.linalg.norm(stored, axis=1) == pytest.approx(np.ones(COUNT), abs=1e-5)
    probe = vectors(running, jpeg(77))[0]
    answer = running.search("default", jpeg(77), limit=100, score_threshold=-1).json()
    scores = {result["id"]: result["score"] for result in answer["results"]}
    for number in range(COUNT):
        assert scores[f"i{number}"] == pytest.approx(float(stored[number] @ probe), abs=2e-4)
    assert sorted(scores.values(), reverse=True) == list(scores.values())


def test_form_raw_base64_and_data_uri_give_one_answer(running: Server) -> None:
    data = jpeg(70)
    text = base64.b64encode(data).decode()
    form = running.search("default", data, limit=5, score_threshold=-1).json()
    raw = running.client.post(
        f"{PATH}/search",
        params={"limit": 5, "score_threshold": -1},
        content=data,
        headers={"content-type": "image/jpeg"},
    ).json()
    plain = query(running, image_base64=text, limit=5)
    uri = query(running, image_base64=f"data:image/jpeg;base64,{text}", limit=5)
    assert form["results"] == raw["results"] == plain["results"] == uri["results"]


def test_a_vector_asks_what_its_picture_asks(running: Server) -> None:
    vector = vectors(running, jpeg(70))[0]
    asked = query(running, vector=(vector * 7).tolist(), limit=5)
    assert ids(asked) == ids(running.search("default", jpeg(70), limit=5, score_threshold=-1).json())


def test_an_item_is_left_out_of_its_own_look_alikes(running: Server) -> None:
    by_query = query(running, id="i3", limit=100)
    similar = running.client.get(f"{PATH}/items/i3/similar", params={"limit": 100, "score_threshold": -1}).json()
    assert len(ids(by_query)) == COUNT - 1 and "i3" not in ids(by_query)
    assert by_query["results"] == similar["results"]
    assert by_query["best_score"] == by_query["results"][0]["score"] < 0.9999


def test_liked_and_disliked_items_make_the_mean_the_contract_names(running: Server) -> None:
    stored = vectors(running, *(jpeg(number) for number in range(COUNT)))
    wanted = stored[[1, 2]].mean(axis=0) - stored[[5]].mean(axis=0)
    wanted /= np.linalg.norm(wanted)
    answer = query(running, positive=["i1", "i2"], negative=["i5"], limit=100)
    assert not {"i1", "i2", "i5"} & set(ids(answer))
    for result in answer["results"]:
        assert result["score"] == pytest.approx(float(stored[int(result["id"][1:])] @ wanted), abs=2e-4)


def test_likes_that_cancel_out_are_invalid(running: Server) -> None:
    response = running.client.post(f"{PATH}/query", json={"positive": ["i1"], "negative": ["i1"]})
    assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid-request")


def test_the_request_threshold_beats_the_collections_which_beats_the_models(running: Server) -> None:
    model = running.client.get("/v1/info").json()["model"]["default_threshold"]

    def source(**fields: Any) -> tuple[float, str]:
        answer = running.search("default", jpeg(70), **fields).json()
        return answer["score_threshold"], answer["threshold_source"]

    assert source() == (model, "model_default")
    described = running.client.patch(PATH, json={"score_threshold": 0.5}).json()
    assert (described["score_threshold"], described["threshold_source"]) == (0.5, "collection")
    assert source() == (0.5, "collection")
    assert source(score_threshold=0.9) == (0.9, "request")
    described = running.client.patch(PATH, json={"score_threshold": None}).json()
    assert (described["score_threshold"], described["threshold_source"]) == (model, "model_default")


def test_no_match_is_an_answer_with_the_best_score(running: Server) -> None:
    answer = running.search(
        "default", encoded(pixels(5, (224, 224)).convert("L"), "PNG"), score_threshold=0.9999
    ).json()
    assert (answer["results"], answer["no_match"], answer["message"]) == ([], True, "no similar images")
    assert -1 <= answer["best_score"] < 0.9999
    assert answer["score_threshold"] == 0.9999


def test_nothing_to_search_is_no_match_without_a_score(running: Server) -> None:
    nothing = {"must": [{"key": "n", "match": 99}]}
    answer = query(running, id="i1", filter=nothing)
    assert (answer["no_match"], answer["best_score"], answer["filtered_count"]) == (True, None, 0)
    only = query(running, id="i1", filter={"must": [{"key": "n", "match": 1}]})
    assert (only["no_match"], only["best_score"], only["filtered_count"]) == (True, None, 1)


def test_an_offset_past_the_end_is_not_no_match(running: Server) -> None:
    answer = query(running, id="i1", offset=50)
    assert (answer["results"], answer["no_match"], answer["message"]) == ([], False, None)


def test_pages_follow_each_other(running: Server) -> None:
    whole = ids(query(running, id="i1", limit=9))
    assert ids(query(running, id="i1", limit=4)) + ids(query(running, id="i1", limit=5, offset=4)) == whole


def test_filters_narrow_the_search_and_are_counted(running: Server) -> None:
    wanted = {"must": [{"key": "brand", "match": "acme"}], "must_not": [{"key": "n", "range": {"lt": 5}}]}
    answer = query(running, id="i1", filter=wanted, limit=100)
    assert set(ids(answer)) == {"i5", "i7", "i8", "i10", "i11"}
    assert answer["filtered_count"] == 5
    either = {"should": [{"key": "n", "any": [0, 2]}, {"key": "size", "match": "XL"}]}
    assert set(ids(query(running, id="i1", filter=either))) == {"i0", "i2"}


def test_groups_give_their_best_item(running: Server) -> None:
    answer = query(running, vector=vectors(running, jpeg(70))[0].tolist(), group_by="brand", limit=5)
    assert sorted(result["group"] for result in answer["results"]) == ["acme", "other"]
    everyone = query(running, vector=vectors(running, jpeg(70))[0].tolist(), limit=100)
    for result in answer["results"]:
        best = next(each for each in everyone["results"] if each["metadata"]["brand"] == result["group"])
        assert result["id"] == best["id"]


def test_a_crop_searches_that_part(running: Server) -> None:
    half = pixels(70, (400, 300))
    cropped = half.crop((200, 0, 400, 300))
    part = running.search("default", encoded(half, "PNG"), crop="0.5,0,1,1", score_threshold=-1).json()
    itself = running.search("default", encoded(cropped, "PNG"), score_threshold=-1).json()
    assert ids(part) == ids(itself)
    assert part["best_score"] == pytest.approx(itself["best_score"], abs=0.02)


def test_a_batch_answers_in_order_and_a_bad_query_spoils_no_other(running: Server) -> None:
    queries = [{"id": "i1", "limit": 2}, {"id": "none"}, {"nonsense": 1}, {"id": "i2", "limit": 1}]
    answers = running.client.post(f"{PATH}/query/batch", json={"queries": queries}).json()["responses"]
    assert (
        answers[0]["results"]
        == query(running, id="i1", limit=2, score_threshold=answers[0]["score_threshold"])["results"]
    )
    assert [answers[1]["type"], answers[2]["type"]] == ["/problems/not-found", "/problems/invalid-request"]
    assert len(answers[3]["results"]) <= 1 and answers[3]["filtered_count"] == COUNT


def test_similar_items_of_many_are_those_of_each_and_a_bad_id_spoils_no_other(running: Server) -> None:
    """In the order asked, the same id twice included, with the fields that one item's similar ones take."""
    asked: dict[str, Any] = {
        "limit": 3,
        "score_threshold": -1,
        "group_by": "brand",
        "filter": {"must_not": [{"key": "n", "match": 5}]},
    }
    names = ["i3", "none", "not an id", 7, "i1", "i3"]
    answers = running.client.post(f"{PATH}/similar/batch", json={"ids": names, **asked}).json()["responses"]
    query = {**asked, "filter": '{"must_not":[{"key":"n","match":5}]}'}
    for name, answer in zip(names, answers, strict=True):
        if name in ("i1", "i3"):
            alone = running.client.get(f"{PATH}/items/{name}/similar", params=query).json()
            assert {**answer, "took_ms": 0} == {**alone, "took_ms": 0} and len(alone["results"]) == 2
            assert name not in ids(alone)
    assert [answer["type"].rpartition("/")[2] for answer in answers[1:4]] == ["not-found", *["invalid-request"] * 2]
    assert [answer["errors"][0]["field"] for answer in answers[2:4]] == ["ids.2", "ids.3"]


@pytest.mark.parametrize(
    "body",
    [{"ids": []}, {"ids": ["i1"] * 101}, {"ids": "i1"}, {}, {"ids": ["i1"], "crop": "0,0,1,1"}, {"ids": None}],
)
def test_a_batch_of_ids_that_is_none_is_refused_as_a_whole(running: Server, body: dict[str, Any]) -> None:
    response = running.client.post(f"{PATH}/similar/batch", json=body)
    assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid-request")


def test_a_hundred_ids_are_answered(running: Server) -> None:
    names = [f"i{number % COUNT}" for number in range(100)]
    answers = running.client.post(f"{PATH}/similar/batch", json={"ids": names, "score_threshold": -1}).json()
    assert [len(each["results"]) for each in answers["responses"]] == [10] * 100


def test_embeddings_speak_openais_shape_in_both_encodings(running: Server) -> None:
    text = base64.b64encode(jpeg(3)).decode()
    plain = running.client.post("/v1/embeddings", json={"input": text, "model": "resnet50"}).json()
    packed = running.client.post("/v1/embeddings", json={"input": [text], "encoding_format": "base64"}).json()
    assert (plain["object"], plain["data"][0]["object"], plain["data"][0]["index"]) == ("list", "embedding", 0)
    vector = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    assert vector.shape == (2048,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(plain["data"][0]["embedding"], vector, atol=1e-6)
    assert plain["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(("dimensions", "status"), [(2048, 200), (None, 200), (2047, 422), (1, 422), (0, 422)])
def test_only_the_models_own_number_of_dimensions_is_given(
    running: Server, dimensions: int | None, status: int
) -> None:
    text = base64.urlsafe_b64encode(jpeg(3)).decode()
    response = running.client.post("/v1/embeddings", json={"input": text, "dimensions": dimensions})
    assert response.status_code == status
    if status == 200:
        assert len(response.json()["data"][0]["embedding"]) == 2048
    else:
        assert response.json()["errors"][0]["field"] == "dimensions"


def test_examples_are_items_pictures_vectors_and_handles_with_weights(running: Server) -> None:
    """The vector is the weighted mean of unit vectors, whatever each of them came from; only items are left out."""
    handle = running.search("default", jpeg(2)).json()["query_id"]
    numbers = (1, 2, 3, 5, 6)
    rows = dict(zip(numbers, vectors(running, *(jpeg(each) for each in numbers)).astype(np.float64), strict=True))
    picture = {"image_base64": base64.b64encode(jpeg(1)).decode(), "weight": 3}
    mixed = [picture, {"query_id": handle}, {"vector": (5 * rows[3]).tolist(), "weight": 0.5}]
    against = [{"id": "i5", "weight": 2}, "i6"]
    answer = query(running, positive=mixed, negative=against, limit=100, score_threshold=-1)
    assert {"i5", "i6"}.isdisjoint(each["id"] for each in answer["results"])
    wanted = (3 * rows[1] + rows[2] + 0.5 * rows[3]) / 4.5 - (2 * rows[5] + rows[6]) / 3
    wanted /= np.linalg.norm(wanted)
    scores = {each["id"]: each["score"] for each in answer["results"]}
    for number in (1, 2, 3):
        assert scores[f"i{number}"] == pytest.approx(float(rows[number] @ wanted), abs=2e-4)
    one = query(running, positive=[{**picture, "weight": 7}], score_threshold=-1)
    assert one["results"][0]["id"] == "i1" and one["best_score"] == pytest.approx(1, abs=2e-4)


def test_examples_that_are_none_are_refused_by_their_place(running: Server) -> None:
    picture = {"image_base64": base64.b64encode(jpeg(1)).decode()}
    for positive, field, words in (
        (["i1", {"id": "i1", "vector": [1]}], "positive.1", "give exactly one of id, vector, image_base64, query_id"),
        ([{"weight": 2}], "positive.0", "give exactly one"),
        ([{"id": "a b"}], "positive.0", "id: has characters"),
        (["a b"], "positive.0", "must be 1 to 128"),
        ([3], "positive.0", "an id or an object"),
        ([{"id": "i1", "weight": 0}], "positive.0", "weight: must be"),
        ([{"id": "i1", "weight": True}], "positive.0", "weight: must be"),
        ([{"id": "i1", "crop": "0,0,1,1"}], "positive.0", "crop"),
        ([picture] * 9, "body", "at most 8 pictures"),
        ([{"image_base64": "!"}], "positive.0.image_base64", "base64"),
    ):
        response = running.client.post(f"{PATH}/query", json={"positive": positive})
        assert response.status_code == 422, positive
        (error,) = response.json()["errors"]
        assert error["field"] == field and words in error["message"], error
    short = running.client.post(f"{PATH}/query", json={"positive": ["i1", {"vector": [1, 2]}]})
    assert short.status_code == 422 and "numbers" in short.json()["detail"]
    gone = running.client.post(f"{PATH}/query", json={"positive": [{"query_id": "gone"}, picture]})
    assert gone.status_code == 404
    text = {"image_base64": base64.b64encode(b"no picture").decode()}
    assert running.client.post(f"{PATH}/query", json={"positive": ["i1", text]}).status_code == 415
