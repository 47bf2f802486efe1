"""A change that breaks a client of the last release is found, whatever kind it is; one that adds is none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from service.http.openapi.breaking import breaking, named, surface, unnamed
from service.http.openapi.committed import document

DOCUMENT = document()
OLD = surface(DOCUMENT)
Change = Callable[[dict[str, Any]], object]


def schemas(whole: dict[str, Any]) -> dict[str, Any]:
    return dict(whole["components"]["schemas"])


def operation(whole: dict[str, Any], path: str, method: str) -> dict[str, Any]:
    return dict(whole["paths"][path][method])


BREAKING: dict[str, tuple[str, Change]] = {
    "an operation goes": ("info", lambda whole: whole["paths"].pop("/v1/info")),
    "it moves": ("info", lambda whole: whole["paths"].update({"/v2/info": whole["paths"].pop("/v1/info")})),
    "it is renamed": ("info", lambda whole: whole["paths"]["/v1/info"]["get"].update(operationId="about")),
    "a request's field goes": ("delete_items", lambda whole: schemas(whole)["DeleteByIds"]["properties"].pop("ids")),
    "one must be sent": ("update_item", lambda whole: schemas(whole)["MetadataPatch"].update(
        properties=schemas(whole)["MetadataPatch"]["properties"] | {"why": {"type": "string"}},
        required=["metadata", "why"])),
    "a type is refused": ("update_item", lambda whole: schemas(whole)["MetadataPatch"]["properties"].update(
        metadata={"type": "array"})),
    "a limit is tightened": ("list_items", lambda whole: next(
        each["schema"] for each in whole["paths"]["/v1/collections/{c}/items"]["get"]["parameters"]
        if each["name"] == "limit").update(maximum=10)),
    "an answer's field goes": ("get_item", lambda whole: schemas(whole)["Item"]["properties"].pop("id")),
    "it may be missing": ("get_item", lambda whole: schemas(whole)["Item"]["required"].remove("id")),
    "it may be of another type": ("get_item", lambda whole: schemas(whole)["Item"]["properties"]["id"].update(
        type=["string", "null"])),
    "a body must be sent": ("create_collection", lambda whole: whole["paths"]["/v1/collections/{c}"]["put"][
        "requestBody"].update(required=True)),
    "a body is of another media type": ("search_by_image", lambda whole: whole["paths"][
        "/v1/collections/{c}/search"]["post"]["requestBody"].update(content={"text/csv": {}})),
    "a text must have a form": ("list_items", lambda whole: next(
        each["schema"] for each in whole["paths"]["/v1/collections/{c}/items"]["get"]["parameters"]
        if each["name"] == "limit").update(pattern="^x$")),
    "a time is any text": ("get_item", lambda whole: schemas(whole)["Item"]["properties"]["created_at"].pop("format")),
    "a picture is of another media type": ("get_thumbnail", lambda whole: next(
        methods["get"] for path, methods in whole["paths"].items()
        if methods.get("get", {}).get("operationId") == "get_thumbnail")["responses"]["200"].update(
        content={"image/gif": {}})),
    "a header goes": ("put_item", lambda whole: whole["paths"]["/v1/collections/{c}/items/{id}"]["put"]["responses"][
        "201"]["headers"].pop("Location")),
    "a status goes": ("put_item", lambda whole: operation(
        whole, "/v1/collections/{c}/items/{id}", "put")["responses"].pop("201")),
}  # fmt: skip

SOUND = {"type": "object", "properties": {"sound": {"type": "string"}}, "required": ["sound"]}
ADDING: dict[str, Change] = {
    "another way to ask": lambda whole: schemas(whole)["Query"]["oneOf"].append(SOUND),
    "nothing": lambda whole: None,
    "an operation": lambda whole: whole["paths"].update(
        {"/v1/more": {"get": whole["paths"]["/v1/info"]["get"] | {"operationId": "more"}}}
    ),
    "an answer's field": lambda whole: schemas(whole)["Item"]["properties"].update(more={"type": "string"}),
    "a field that need not be sent": lambda whole: schemas(whole)["MetadataPatch"]["properties"].update(
        more={"type": "string"}
    ),
    "a wider limit": lambda whole: next(
        each["schema"]
        for each in whole["paths"]["/v1/collections/{c}/items"]["get"]["parameters"]
        if each["name"] == "limit"
    ).update(maximum=10**6),
    "a refusal": lambda whole: whole["paths"]["/v1/info"]["get"]["responses"].update({"418": {"description": "no"}}),
}


@pytest.mark.parametrize("kind", BREAKING)
def test_what_breaks_is_found_and_named_by_its_operation(kind: str) -> None:
    where, change = BREAKING[kind]
    whole = copy.deepcopy(DOCUMENT)
    change(whole)
    found = breaking(OLD, surface(whole))
    assert where in {name for name, _ in found}, found
    assert unnamed(found, "## [Unreleased]\n\n### Breaking\n\n- nothing of it\n")
    told = "- " + " ".join(name for name, _ in found)
    assert unnamed(found, f"## [Unreleased]\n\n### Breaking\n\n{told}\n\n### Fixed\n") == []
    assert unnamed(found, f"## [Unreleased]\n\n### Fixed\n\n{told}\n\n## [1.0]\n\n### Breaking\n{told}")


@pytest.mark.parametrize("kind", ADDING)
def test_what_adds_breaks_nobody(kind: str) -> None:
    whole = copy.deepcopy(DOCUMENT)
    ADDING[kind](whole)
    assert breaking(OLD, surface(whole)) == []


def test_only_the_unreleased_part_speaks() -> None:
    assert named("## [Unreleased]\n### Breaking\n- x\n### Added\n- y\n## [1]\n### Breaking\n- z") == "\n- x"
