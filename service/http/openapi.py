"""The schema as client generators need it: bodies that routes read themselves, and one shape for every error."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.http import schemas

REF = "#/components/schemas/{model}"
PROBLEM = "application/problem+json"

BODIES: tuple[type[BaseModel], ...] = (
    schemas.CollectionCreate,
    schemas.CollectionPatch,
    schemas.MetadataPatch,
    schemas.DeleteRequest,
    schemas.SearchForm,
    schemas.ItemForm,
    schemas.QueryRequest,
    schemas.QueryBatch,
    schemas.EmbeddingRequest,
    schemas.ProblemDetails,
)


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole OpenAPI document of `app`. Routes name pydantic models where their bodies and query fields go."""
    _, shared = models_json_schema([(model, "validation") for model in BODIES], ref_template=REF)
    routes = list(app.routes)
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=routes)
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update(shared["$defs"])
    for generated in ("HTTPValidationError", "ValidationError"):
        components.pop(generated, None)
    for path in document["paths"].values():
        for operation in path.values():
            _finish(operation)
    return document


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads `model` as JSON itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _reference(model)}}}}


def picture_body(form: type[BaseModel], *, raw: bool = False) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a picture in a form, or (raw) as the body itself."""
    content: dict[str, Any] = {"multipart/form-data": {"schema": _reference(form)}}
    if raw:
        binary = {"schema": {"type": "string", "format": "binary"}}
        content |= {f"image/{kind}": binary for kind in ("jpeg", "png", "webp")}
    return {"requestBody": {"required": True, "content": content}}


def query_string(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its query string into `model` itself."""
    return {"parameters": query_parameters(model)}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """A model's fields as OpenAPI query parameters; objects and lists go as text there."""
    found = []
    for name, schema in model.model_json_schema()["properties"].items():
        shown = {key: value for key, value in schema.items() if key not in ("title", "examples")}
        description = shown.pop("description", None)
        kinds = {each.get("type") for each in shown.get("anyOf", [shown])}
        if kinds & {"object", "array"}:
            shown = {"type": "string"}
        found.append({"name": name, "in": "query", "required": False, "schema": shown})
        if description:
            found[-1]["description"] = description
    return found


def _finish(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    # FastAPI adds its own 422; ours is the problem that `default` describes.
    responses.pop("422", None)
    if "default" in responses:
        responses["default"]["content"] = {PROBLEM: {"schema": _reference(schemas.ProblemDetails)}}
