"""The OpenAPI document: committed as it is served, bounded, ordered as the paths are, and true in both directions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from index.errors import FilterError
from service.http.openapi.committed import document
from service.http.schemas.base import FieldsRefused
from service.http.schemas.collections import CollectionCreate, CollectionPatch
from service.http.schemas.embeddings import EmbeddingRequest
from service.http.schemas.filters import parsed
from service.http.schemas.items import MetadataPatch, read_delete
from service.http.schemas.problems import KINDS
from service.http.schemas.queries import QueryBatch, SimilarBatch, read_query
from service.http.schemas.search import SearchTexts, SimilarFields
from tests.harness.serving import ROOT

DOCUMENT: dict[str, Any] = json.loads(orjson.dumps(document()))
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    (f"{method} {path}", path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def valid(schema: dict[str, Any], value: Any) -> bool:
    """Whether the document takes a value."""
    return bool(Draft202012Validator({**schema, "components": DOCUMENT["components"]}).is_valid(value))


def nodes(value: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the document that is a schema with a type, and where it is."""
    if isinstance(value, dict):
        if "type" in value and isinstance(value["type"], str | list) and "in" not in value:
            yield place, value
        for key, each in value.items():
            if key not in ("example", "examples", "enum"):
                yield from nodes(each, f"{place}/{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from nodes(each, f"{place}/{number}")


def test_the_committed_document_is_this_versions() -> None:
    """Clients are generated from the file; `python -m service.http.openapi.committed > openapi.json` writes it anew."""
    assert json.loads((ROOT / "openapi.json").read_bytes()) == DOCUMENT


def test_path_parameters_come_in_the_order_of_the_path() -> None:
    for where, path, operation in OPERATIONS:
        shown = [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]
        assert shown == re.findall(r"{(\w+)}", path), where


def test_summaries_are_sentences_and_tags_are_described() -> None:
    tags = {each["name"] for each in DOCUMENT["tags"] if each["description"]}
    for where, _, operation in OPERATIONS:
        assert len(operation["summary"].split()) >= 3, f"{where}: {operation['summary']}"
        assert set(operation["tags"]) <= tags, where


def test_operations_name_what_they_may_be_refused_for() -> None:
    """By status, with the slug in an enum, an example of each, and Retry-After where coming back may help."""
    slugs = {f"/problems/{slug}" for slug in KINDS}
    assert set(SCHEMAS["ProblemDetails"]["properties"]["type"]["enum"]) == slugs
    for where, path, operation in OPERATIONS:
        responses = operation["responses"]
        if path.startswith("/v1/"):
            assert "422" in responses and "503" in responses, where
        if "requestBody" in operation:
            assert {"408", "413", "415"} <= responses.keys(), where
        if "{" in path and operation["operationId"] != "create_collection":
            assert "404" in responses, where
        for status, response in responses.items():
            if status.isdigit() and int(status) >= 400:
                examples = response["content"]["application/problem+json"]["examples"]
                assert {each["value"]["status"] for each in examples.values()} == {int(status)}, where
                assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503")), where


def test_one_type_of_body_and_no_default_that_clients_would_send() -> None:
    for where, _, operation in OPERATIONS:
        assert len(operation.get("requestBody", {}).get("content", {"none": 1})) == 1, where
    for place, schema in nodes(DOCUMENT):
        assert "default" not in schema, place


def test_every_field_and_parameter_is_described() -> None:
    """By itself, by its own type, or where it is one of several kinds by one of them."""
    for name, schema in SCHEMAS.items():
        assert schema["description"], name
        assert "__" not in name, "two types of one name: generators make one class of them, or none"
        for field, shown in schema.get("properties", {}).items():
            kinds = [shown, *shown.get("anyOf", []), *shown.get("oneOf", [])]
            assert any("description" in each or "$ref" in each for each in kinds), f"{name}.{field}"
    for where, _, operation in OPERATIONS:
        for parameter in operation.get("parameters", []):
            assert parameter["description"], f"{where}: {parameter['name']}"


def test_everything_is_bounded() -> None:
    """Texts, lists and numbers have limits, so that clients can make room and checks can try the edges."""
    for place, schema in nodes(DOCUMENT):
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        free = schema.keys() & {"enum", "const"} or schema.get("format") == "binary"
        if "string" in kinds and not free:
            assert "maxLength" in schema, place
        if "array" in kinds:
            assert "maxItems" in schema, place
        if {"number", "integer"} & set(kinds):
            assert free or {"minimum", "maximum"} <= schema.keys(), place


def test_uploads_are_binary_for_old_and_new_generators() -> None:
    upload = SCHEMAS["SearchForm"]["properties"]["image"]
    thumbnail = next(each for where, _, each in OPERATIONS if each["operationId"] == "get_thumbnail")
    shown = thumbnail["responses"]["200"]["content"]["image/webp"]["schema"]
    for schema in (upload, shown):
        assert (schema["type"], schema["format"]) == ("string", "binary") and schema["contentMediaType"]


def test_times_say_so_and_what_is_created_says_where() -> None:
    for name in ("Item", "Collection"):
        assert SCHEMAS[name]["properties"]["created_at"]["format"] == "date-time"
    for name in ("put_item", "create_collection"):
        operation = next(each for _, _, each in OPERATIONS if each["operationId"] == name)
        assert "Location" in operation["responses"]["201"]["headers"]
    create = DOCUMENT["paths"]["/v1/collections/{c}"]["put"]["requestBody"]
    assert create["required"] is False


# What each body is read by, and values that the document and the reader must agree on.
A_VECTOR = [0.5, 1, -2.25]
CONDITION = {"key": "a", "match": 1}
READERS: dict[str, Any] = {
    "Query": read_query,
    "QueryBatch": QueryBatch.read,
    "SimilarBatch": SimilarBatch.read,
    "DeleteRequest": read_delete,
    "CollectionPatch": CollectionPatch.read,
    "CollectionCreate": CollectionCreate.read,
    "MetadataPatch": MetadataPatch.read,
    "EmbeddingRequest": EmbeddingRequest.read,
    "Filter": parsed,
}
VALUES: dict[str, dict[str, list[Any]]] = {
    "Query": {
        "taken": [
            {"id": "a"}, {"vector": A_VECTOR}, {"image_base64": "aa"}, {"image_url": "https://x.example/a.jpg"},
            {"positive": ["a"]}, {"positive": ["a"], "negative": ["b"]}, {"positive": ["a"], "negative": []},
            {"positive": ["a", {"id": "b", "weight": 2}, {"vector": A_VECTOR}, {"query_id": "q", "crop": None}]},
            {"positive": [{"image_base64": "aa", "crop": "0,0,.5,1"}], "negative": [{"id": "c", "weight": None}]},
            {"positive": ["a"], "negative": None}, {"id": "a", "limit": None, "offset": None, "filter": None},
            {"id": "a", "group_by": None, "score_threshold": None}, {"image_base64": "aa", "crop": None},
            {"image_base64": "aa", "crop": "0,0,.5,1"}, {"image_base64": "aa", "crop": "0, 0.25, 1, 1e-0"[:12] + "1"},
            {"id": "a", "filter": {"must": [CONDITION], "should": None}}, {"id": "a", "score_threshold": -1},
        ],
        "refused": [
            {}, [], None, "id", 3, {"limit": 3}, {"id": "a", "vector": A_VECTOR}, {"id": "a b"}, {"id": ""},
            {"id": "a", "crop": "0,0,1,1"}, {"vector": []}, {"vector": ["a"]}, {"vector": [True]}, {"vector": [1e39]},
            {"positive": [{}]}, {"positive": [3]}, {"positive": [{"id": "a", "weight": 0}]}, {"positive": [{"id": 3}]},
            {"positive": [{"id": "a", "vector": A_VECTOR}]}, {"positive": [{"id": "a", "crop": "0,0,1,1"}]},
            {"negative": ["a"]}, {"positive": []}, {"positive": ["a"] * 101}, {"id": "a", "limit": 0},
            {"id": "a", "limit": "3"}, {"id": "a", "limit": 2.5}, {"id": "a", "limit": True},
            {"id": "a", "limit": 101}, {"id": "a", "offset": 10_001}, {"id": "a", "score_threshold": 1.01},
            {"id": "a", "group_by": ""}, {"id": "a", "group_by": "x" * 257}, {"id": "a", "unknown": 1},
            {"image_base64": "aa", "crop": "0,0,1"}, {"image_base64": "aa", "crop": "a,b,c,d"}, {"id": 3},
            {"image_base64": "aa", "crop": [0, 0, 1]}, {"image_url": ""}, {"image_url": "x" * 2049},
            {"id": "a", "filter": "{"}, {"id": "a", "filter": {"must": [{}]}}, {"id": "a", "filter": {"maybe": []}},
        ],
    },
    "QueryBatch": {
        "taken": [{"queries": [{"id": "a"}]}],
        "refused": [{}, {"queries": []}, {"queries": None}, {"queries": [{"id": "a"}] * 33}, {"queries": {}}],
    },
    "DeleteRequest": {
        "taken": [
            {"ids": ["a"]}, {"ids": []}, {"filter": {"must": [CONDITION]}}, {"filter": {"must_not": [CONDITION]}},
        ],
        "refused": [
            {}, {"ids": ["a"], "filter": {"must": [CONDITION]}}, {"ids": None}, {"filter": None}, {"filter": {}},
            {"filter": {"must": []}}, {"filter": {"must": None, "should": []}}, {"ids": ["a b"]}, {"ids": "a"},
            {"ids": None, "filter": None}, {"filter": {"must": [CONDITION]}, "limit": 1}, {"filter": []},
        ],
    },
    "CollectionPatch": {
        "taken": [{"score_threshold": 0.5}, {"score_threshold": None}, {"score_threshold": 1}, {"recall": 0.9},
                  {"recall": None}, {"recall": 1},
                  {"recall": 0.5, "score_threshold": None}],
        "refused": [{}, {"recall": 0}, {"recall": 1.01}, {"recall": "0.9"}, {"recall": 0.49},
                    {"score_threshold": 2}, {"score_threshold": "0.5"}, {"score_threshold": []}, {"threshold": 1}],
    },
    "CollectionCreate": {
        "taken": [{}, {"score_threshold": 0.5}, {"score_threshold": None}, {"recall": 0.99}, {"recall": None}],
        "refused": [{"recall": 99}, {"score_threshold": -2}, {"name": "a"}, [], None],
    },
    "MetadataPatch": {
        "taken": [{"metadata": {}}, {"metadata": {"a": None, "b": []}}],
        "refused": [{}, {"metadata": None}, {"metadata": []}, {"metadata": "{}"}, {"metadata": {}, "id": "a"}],
    },
    "EmbeddingRequest": {
        "taken": [{"input": "aa"}, {"input": ["aa"]}, {"input": "aa", "encoding_format": "base64"},
                  {"input": "aa", "dimensions": 2048, "model": "resnet50", "user": "me"}],
        "refused": [{}, {"input": []}, {"input": ["aa"] * 33}, {"input": 3}, {"input": [3]}, {"input": None},
                    {"input": "aa", "encoding_format": "hex"}, {"input": "aa", "dimensions": 0},
                    {"input": "aa", "dimensions": "2048"}, {"input": "aa", "tokens": 1}],
    },
    "Filter": {
        "taken": [
            {}, {"must": []}, {"must": None}, {"must": [CONDITION], "should": [CONDITION], "must_not": []},
            {"must": [{"key": "a.b", "match": None}]}, {"must": [{"key": "a", "match": True}]},
            {"must": [{"key": "a", "any": []}]}, {"must": [{"key": "a", "any": ["x", 1, 2.5, None, False]}]},
            {"must": [{"key": "a", "range": {"gte": 1}}]}, {"must": [{"key": "a", "range": {"gt": 1, "lt": 2.5}}]},
        ],
        "refused": [
            [], "x", '"{}"', 3, {"must": {}}, {"must": "a"}, {"must": [3]}, {"must": [{}]}, {"must": [{"key": "a"}]},
            {"must": [{"match": 1}]}, {"must": [{"key": "", "match": 1}]}, {"must": [{"key": 3, "match": 1}]},
            {"must": [{"key": "a", "match": []}]}, {"must": [{"key": "a", "match": {}}]},
            {"must": [{"key": "a", "any": 3}]}, {"must": [{"key": "a", "any": [[]]}]},
            {"must": [{"key": "a", "range": {}}]}, {"must": [{"key": "a", "range": 3}]},
            {"must": [{"key": "a", "range": {"eq": 3}}]}, {"must": [{"key": "a", "range": {"gt": True}}]},
            {"must": [{"key": "a", "match": 1, "any": [1]}]}, {"must": [{"key": "a", "match": 1, "boost": 2}]},
            {"must": [CONDITION] * 257}, {"all": [CONDITION]},
        ],
    },
}  # fmt: skip


def taken(name: str, value: Any) -> bool:
    try:
        READERS[name](value)
    except (FieldsRefused, FilterError):
        return False
    return True


@pytest.mark.parametrize("name", VALUES)
def test_what_is_refused_the_document_refuses_and_what_is_taken_it_takes(name: str) -> None:
    for kind, values in VALUES[name].items():
        for value in values:
            shown = json.dumps(value)[:200]
            assert taken(name, value) == (kind == "taken"), f"the service: {shown}"
            assert valid({"$ref": f"#/components/schemas/{name}"}, value) == (kind == "taken"), f"the document: {shown}"


def test_every_example_is_one_that_the_document_and_the_service_take() -> None:
    for where, _, operation in OPERATIONS:
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            for name, example in content.get("examples", {}).items():
                assert valid(content["schema"], example["value"]), f"{where}: {name}"
                # Forms are read by their routes; tests/answers has sent those that are shown.
                if kind == "application/json":
                    assert taken(content["schema"]["$ref"].rsplit("/", 1)[1], example["value"]), f"{where}: {name}"


TEXTS: dict[str, tuple[list[str], list[str]]] = {
    "limit": (["1", "100", "", "null"], ["0", "101", "x", "1.5", "nan", "[]"]),
    "offset": (["0", "10000", "", "null"], ["-1", "10001", "x"]),
    "score_threshold": (["-1", "0.25", "1", "", "null"], ["1.5", "nan", "inf", "x", "None"]),
    "filter": (["", "null", "{}", '{"must":[{"key":"a","match":null}]}', '{"should":null}'],
               ["{", "[]", "x", '{"must":3}', '{"must":[],"must":[]}', '{"must":[{"key":"a","match":NaN}]}',
                '{"must":[{"key":"a","match":9223372036854775808}]}', '{"must":[{"key":"a","match":-1e999}]}']),
    "group_by": (["", "null", "brand", "a" * 256], ["a" * 257]),
    "crop": (["", "null", "0,0,1,1", "0.1, .2,0.3,1.0", "0,0,1e-2,5E-1"],
             ["0,0,1", "0,0,1,1,1", "1,0,0,1", "0,0,0,1", "0,0,2,1", "-0.1,0,1,1", "nan,0,1,1", "a", "[0,0,1,1]"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_forms_and_query_strings(name: str) -> None:
    """Empty and `null` count as left out; what is refused says which field it is, never what was sent."""
    left_out, refused = TEXTS[name]
    for value in left_out:
        asked = SearchTexts.read({name: value})
        if value in ("", "null"):
            assert asked == SearchTexts.read({})
    for value in refused:
        with pytest.raises((FieldsRefused, FilterError)) as failed:
            SearchTexts.read({name: value})
        said = str(failed.value)
        assert said.startswith(name) and (len(value) < 3 or value not in said), said
    if name != "crop":
        assert SimilarFields.read({name: "null"}) == SimilarFields.read({})


def test_forms_that_the_document_does_not_show_are_still_taken() -> None:
    """A crop as a list and a filter as text, in JSON: what clients of earlier versions send."""
    shown = read_query({"image_base64": "aa", "crop": "0,0,0.5,1", "filter": {"must": [CONDITION]}})
    assert (
        read_query({"image_base64": "aa", "crop": [0, 0, 0.5, 1], "filter": json.dumps({"must": [CONDITION]})}) == shown
    )
    assert read_query({"image_base64": "aa", "crop": [], "filter": [], "limit": []}) == read_query(
        {"image_base64": "aa"}
    )


WORDS = [
    (QueryBatch.read, {"queries": 3}, "queries: must be a list"),
    (QueryBatch.read, 3, "body: must be an object"),
    (QueryBatch.read, {}, "queries: missing"),
    (read_query, {"id": "a", "limit": "3"}, "limit: must be an integer"),
    (read_query, {"id": "a", "limit": 1000}, "limit: must be at most 100"),
    (read_query, {"id": "a", "group_by": ""}, "group_by: must have at least 1 characters"),
    (read_query, {"id": "a", "score_threshold": "x"}, "score_threshold: must be a number"),
    (read_query, {"id": 3}, "id: must be a text"),
    (read_query, {}, "body: give exactly one of id, vector, image_base64, image_url, query_id, positive"),
    (read_query, {"id": "a", "crop": "0,0,1,1"}, "crop: does not go with id"),
    (read_query, {"image_base64": "aa", "crop": "1"}, "crop: must be left,top,right,bottom: four numbers from 0 to 1"),
    (EmbeddingRequest.read, {"input": "a", "encoding_format": "x"}, "encoding_format: must be 'float' or 'base64'"),
    (MetadataPatch.read, {"metadata": 3}, "metadata: must be an object"),
    (CollectionPatch.read, {"score_threshold": 3}, "score_threshold: must be at most 1.0"),
    (CollectionPatch.read, {"recall": 0}, "recall: must be at least 0.5"),
    (CollectionPatch.read, {}, "body: name what is to change: score_threshold or recall"),
    (SearchTexts.read, {"limit": "x"}, "limit: must be an integer"),
    (SearchTexts.read, {"score_threshold": "nan"}, "score_threshold: must be a finite number"),
]


@pytest.mark.parametrize(("read", "value", "said"), WORDS, ids=lambda each: each if isinstance(each, str) else "")
def test_refusals_are_in_our_words(read: Any, value: Any, said: str) -> None:
    with pytest.raises(FieldsRefused) as failed:
        read(value)
    assert str(failed.value) == said
