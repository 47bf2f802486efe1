"""What a shop asks of a search beside pictures: handles, facets, boosts, pins, fallbacks; scores stay cosines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from PIL import Image

from tests.conftest import StartServer
from tests.harness.pictures import encoded, jpeg
from tests.harness.serving import Server

BASE = "/v1/collections/shop"
ITEMS = {
    "a": {"brand": "acme", "price": 10, "tags": ["new", "red"]},
    "b": {"brand": "acme", "price": 20, "tags": ["old"]},
    "c": {"brand": "zeta", "price": 30, "at": "2026-11-01"},
    "d": {"brand": "zeta", "price": 40},
    "e": {"price": "on request"},
}


@pytest.fixture(scope="module")
def shop(module_server: StartServer) -> Server:
    server = module_server("shop", env={"LOOKALIKE_MAX_UPLOAD_BYTES": str(40 * 2**20)})
    server.client.put(BASE).raise_for_status()
    for n, (id, metadata) in enumerate(ITEMS.items()):
        server.put("shop", id, jpeg(n), json.dumps(metadata)).raise_for_status()
    return server


def asked(shop: Server, **fields: Any) -> dict[str, Any]:
    """By JSON and by form: the same answer."""
    by_id = shop.client.post(f"{BASE}/query", json={"id": "a", "score_threshold": -1, **fields})
    assert by_id.status_code == 200, by_id.text
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}
    similar = shop.client.get(f"{BASE}/items/a/similar", params={"score_threshold": "-1", **texts})
    assert similar.status_code == 200, similar.text
    one, other = by_id.json(), similar.json()
    del one["took_ms"], other["took_ms"]
    assert one == other
    return dict(one)


def ids(answer: dict[str, Any]) -> list[str]:
    return [each["id"] for each in answer["results"]]


def test_without_rules_nothing_of_them_is_in_the_answer(shop: Server) -> None:
    plain = asked(shop)
    assert set(plain["results"][0]) == {"id", "score", "metadata", "thumbnail_url"}
    assert not plain.keys() & {"facets", "facet_values", "total_above_threshold", "query_id"}


def test_facets_and_totals(shop: Server) -> None:
    found = asked(
        shop, facets=["brand", "price", "nobody"], total=True, filter={"must": [{"key": "price", "range": {"gte": 20}}]}
    )
    assert found["total_above_threshold"] == {"value": 3, "relation": "eq"}
    brands = {each["value"]: (each["count"], each["searched"]) for each in found["facets"]["brand"]}
    assert brands == {"acme": (1, 1), "zeta": (2, 2)}
    assert [each["value"] for each in found["facets"]["price"]] == [20, 30, 40]
    assert found["facets"]["nobody"] == [] and found["facet_values"] == {"brand": 2, "price": 3, "nobody": 0}
    high = asked(shop, total=True, score_threshold=1)
    assert high["no_match"] and high["total_above_threshold"]["value"] == 0


def test_a_boost_changes_the_order_and_no_score(shop: Server) -> None:
    plain = {each["id"]: each["score"] for each in asked(shop)["results"]}
    zeta = {"must": [{"key": "brand", "match": "zeta"}]}
    boosted = asked(shop, boost=[{"filter": zeta, "factor": 2, "add": 0.5}], explain=True)
    assert set(ids(boosted)[:2]) == {"c", "d"}
    for each in boosted["results"]:
        assert each["score"] == plain[each["id"]]
        expected = each["score"] * 2 + 0.5 if each["id"] in "cd" else each["score"]
        assert each["rank_score"] == pytest.approx(expected, abs=1e-5)
        assert each["why"] == (["boost × 2 + 0.5"] if each["id"] in "cd" else [])
    assert boosted["best_score"] == max(plain.values())
    buried = asked(shop, bury=[{"filter": zeta}])
    assert set(ids(buried)[-2:]) == {"c", "d"}


def test_sorting_decay_groups_pins_and_pages(shop: Server) -> None:
    assert ids(asked(shop, sort=[{"key": "price", "order": "desc"}])) == ["e", "d", "c", "b"]
    assert ids(asked(shop, sort=[{"key": "price"}], offset=1, limit=2)) == ["c", "d"]
    assert len(ids(asked(shop, per_group={"key": "brand", "limit": 1}))) == 3
    assert ids(asked(shop, pin=["d", "gone", "c"]))[:2] == ["d", "c"]
    assert [each.get("pinned") for each in asked(shop, pin=["d"])["results"]][:2] == [True, None]
    near = asked(shop, decay=[{"key": "price", "origin": 40, "scale": 0.5, "decay": 0.1}])
    assert ids(near)[0] in "de"
    dated = asked(shop, decay=[{"key": "at", "origin": "now", "scale": "1d"}], explain=True)
    assert next(each for each in dated["results"] if each["id"] == "c")["why"][0].startswith("decay by at")


def test_where_too_few_pass_others_fill_up_and_say_so(shop: Server) -> None:
    branded = {"must": [{"key": "brand", "any": ["acme", "zeta"]}]}
    none = asked(shop, score_threshold=1, fallback={"least": 3, "key": "brand"}, filter=branded)
    assert none["no_match"] and len(none["results"]) == 3
    assert all(each["fallback"] in ("same_value", "nearest") for each in none["results"])
    assert [each["id"] for each in none["results"] if each["fallback"] == "same_value"]
    assert len(set(ids(none))) == 3 and "a" not in ids(none)
    assert ids(asked(shop, score_threshold=1, pin=["d"])) == []  # no match is no match


def test_a_picture_of_one_colour_finds_nothing_and_counts_nothing(shop: Server) -> None:
    plain = encoded(Image.new("RGB", (64, 64), (120, 120, 120)), "PNG")
    found = shop.search("shop", plain, score_threshold=-1, total="true", facets='["brand"]', pin='["a"]').json()
    assert found["no_match"] and found["results"] == []
    assert found["total_above_threshold"] == {"value": 0, "relation": "eq"}
    assert {each["count"] for each in found["facets"]["brand"]} == {0}
    assert ids(asked(shop, pin=["a", "b"]))[0] == "b"  # what the query names is no result


def test_duplicates_are_hidden_and_results_made_different(shop: Server) -> None:
    shop.put("shop", "again", jpeg(3), "{}").raise_for_status()
    try:
        assert {"d", "again"} <= set(ids(asked(shop)))
        assert len({"d", "again"} & set(ids(asked(shop, collapse="duplicates")))) == 1
        assert sorted(ids(asked(shop, diversity=0.7))) == sorted(ids(asked(shop)))
    finally:
        shop.client.delete(f"{BASE}/items/again").raise_for_status()


def test_a_picture_is_searched_with_again_by_its_handle(shop: Server) -> None:
    first = shop.search("shop", jpeg(1), score_threshold=-1).json()

    def embedded() -> float:
        lines = shop.client.get("/metrics").text.splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith('lookalike_stage_seconds_count{stage="embed"')
        )

    before = embedded()
    again = shop.client.post(f"{BASE}/query", json={"query_id": first["query_id"], "score_threshold": -1}).json()
    assert [(e["id"], e["score"]) for e in again["results"]] == [(e["id"], e["score"]) for e in first["results"]]
    assert again["best_score"] == 1 and again["took_ms"]["embed"] == 0 and again["query_id"] == first["query_id"]
    assert embedded() == before
    part = shop.client.post(f"{BASE}/query", json={"query_id": first["query_id"], "crop": "0,0,0.5,0.5"}).json()
    assert part["best_score"] < 1 and embedded() == before + 1
    for unknown in ("AAAA", first["query_id"] + "x", "../etc"):
        refused = shop.client.post(f"{BASE}/query", json={"query_id": unknown})
        assert (refused.status_code, refused.json()["type"]) == (404, "/problems/not-found")
        assert "upload it again" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("boost", [{"filter": {"must": [{"key": "a", "match": 1}]}, "factor": 1e999}]),
        ("boost", [{"filter": {"must": [{"key": "a", "match": 1}]}, "factor": -1}]),
        ("boost", [{"filter": {}, "factor": 2}]),
        ("boost", [{"factor": 2}]),
        ("boost", {"factor": 2}),
        ("bury", [{"filter": {"must": [{"key": "a", "match": 1}]}}] * 21),
        ("decay", [{"key": "a", "origin": 1, "scale": 0}]),
        ("decay", [{"key": "a", "origin": "now", "scale": 3}]),
        ("decay", [{"key": "a", "origin": "soon", "scale": "3d"}]),
        ("decay", [{"key": "a", "origin": 1, "scale": 1, "decay": 1}]),
        ("decay", [{"key": "a", "scale": "30"}]),
        ("decay", [{"key": "a", "scale": "0d"}]),
        ("decay", [{"key": "a", "scale": 1}]),
        ("decay", ["a"]),
        ("sort", [{"key": "a", "order": "up"}]),
        ("per_group", {"key": "a", "limit": 0}),
        ("pin", ["no id!"]),
        ("pin", ["a"] * 21),
        ("fallback", {"least": 0}),
        ("fallback", {"least": 1, "more": 2}),
        ("diversity", 1.5),
        ("collapse", "all"),
        ("facets", ["a"] * 11),
        ("facets", [""]),
        ("facets", "brand"),
        ("total", "perhaps"),
    ],
)
def test_what_is_no_rule_is_refused_by_its_name(shop: Server, field: str, value: Any) -> None:
    content = json.dumps({"id": "a", field: value}).replace("Infinity", "1e999")
    for answer in (
        shop.client.post(f"{BASE}/query", content=content, headers={"Content-Type": "application/json"}),
        shop.client.get(
            f"{BASE}/items/a/similar",
            params={field: value if isinstance(value, str) else json.dumps(value).replace("Infinity", "1e999")},
        ),
    ):
        assert answer.status_code == 422, answer.text
        assert any(error["field"].startswith(field) for error in answer.json()["errors"]) or "1e999" in content
