"""The OpenAPI document, made of the schema's own types, each operation with what it may be refused for.

What a route cannot say by its answer's type it says with the helpers here; `describe` puts everything together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.access.scopes import needs
from service.http.openapi import examples, recorded
from service.http.problems import MEDIA_TYPE
from service.http.schemas import calibration, collections, embeddings, imports, items, problems, queries, search
from service.http.schemas.problems import KINDS

Schema = dict[str, Any]

REF = "#/components/schemas/{model}"
# Read by routes themselves, so FastAPI does not see them.
REQUESTS: tuple[type[BaseModel], ...] = (
    calibration.CalibrationForm,
    collections.CollectionCreate,
    collections.CollectionPatch,
    imports.ImportForm,
    items.ItemForm,
    items.MetadataPatch,
    items.DeleteRequest,
    search.SearchForm,
    queries.Query,
    queries.QueryBatch,
    queries.SimilarBatch,
    embeddings.EmbeddingRequest,
    problems.ProblemDetails,
)
LICENSE = {"name": "MIT", "identifier": "MIT"}
DESCRIPTION = """\
Pictures of a catalogue are **items** of a **collection**. A search brings a picture, an item, a vector or examples, and
finds the items whose vectors are nearest by cosine. Nothing near enough is an answer, not an error: `no_match`.

Every error is `application/problem+json` (RFC 9457); its `type` says which kind. After 503 come back as `Retry-After`
says. A write that was answered with 2xx is on disk, and every later search sees it.

Every answer carries `X-Request-ID`: the one of the request, or a new one; the log has it too. JSON above 1 kB comes
packed with gzip to whoever accepts it. A connection is kept
open for 75 seconds after an answer, for the next request.
"""
UNASKED = "Not asked for by a service without keys, and then not looked at"
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": UNASKED},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": UNASKED},
}
TAGS = {
    "search": "Find similar pictures: by upload, by a stored item, by vector, by examples.",
    "items": "Put, read, change, list and delete the pictures of a collection.",
    "collections": "Named sets of items under one model.",
    "imports": "Files of pictures or vectors into a collection, as jobs.",
    "jobs": "Work that goes on after its request was answered, and through restarts.",
    "embeddings": "Vectors of pictures, in OpenAI's shape.",
    "system": "Health, metrics and what runs here.",
}
# What several operations are refused for.
GROUPS: dict[str, tuple[str, ...]] = {
    "picture": ("unsupported-image", "image-undecodable", "image-too-large"),
    "body": ("timeout", "content-too-large", "unsupported-media-type", "invalid-request"),
    "queue": ("overloaded", "not-ready"),
    "storage": ("storage-full", "storage-read-only", "storage-failed"),
}
RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which the same request may succeed",
        "schema": {"type": "integer", "minimum": 1, "maximum": 3600},
    }
}
# Of every answer; written once, and referred to.
EVERYWHERE = {
    "X-Request-ID": {
        "description": "The request's own, where it was a plain word, or a new one; the log has it too",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:@+/=-]+$", "minLength": 1, "maxLength": 128},
    },
    "Access-Control-Allow-Origin": {
        "description": "The page's origin, or `*`; only where the service was told of it (`LOOKALIKE_CORS_ORIGINS`)",
        "schema": {"type": "string", "maxLength": 512},
    },
}
LOCATION = {
    "Location": {
        "description": "Where what was created is found",
        "schema": {"type": "string", "format": "uri-reference", "maxLength": 512},
    }
}


def describe(app: FastAPI, *, root: str = "") -> Schema:
    """The whole document of `app`. root: the path under which a proxy shows this service."""
    document: Schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=list(app.routes), license_info=LICENSE
    )
    document["info"] |= {"description": DESCRIPTION, "contact": {"name": "The Lookalike authors"}}
    document["servers"] = [
        {"url": root or "/", "description": "This service, local or in production", "x-internal": False}
    ]
    document["security"] = [{}, *({name: []} for name in SECURITY)]
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    _, shared = models_json_schema([(model, "validation") for model in REQUESTS], ref_template=REF)
    document.setdefault("components", {})["headers"] = EVERYWHERE
    document["components"]["securitySchemes"] = SECURITY
    components = document["components"].setdefault("schemas", {})
    components.update(shared["$defs"])
    for generated in ("HTTPValidationError", "ValidationError"):
        components.pop(generated, None)
    for schema in components.values():
        _tidy(schema)
    _nullable(document)
    known = recorded.read()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _finish(path, operation)
            _show(operation, known)
    document["components"]["schemas"] = dict(sorted(components.items()))
    return document


def json_body(model: type[BaseModel], *, required: bool = True) -> Schema:
    """`openapi_extra` of a route that reads `model` as JSON itself."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": reference(model)}}}}


def form_body(model: type[BaseModel]) -> Schema:
    """`openapi_extra` of a route that reads `model` as a multipart form itself."""
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": reference(model)}}}}


def raw_body() -> Schema:
    """`openapi_extra` of a route whose body is a picture. One type of body: generators make one method of it."""
    # `format` is what generators of OpenAPI 3.0 know, `contentMediaType` what those of 3.1 know.
    schema = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    return {
        "requestBody": {
            "required": True,
            "description": "The picture's file: JPEG, PNG or WebP",
            "content": {"application/octet-stream": {"schema": schema}},
        }
    }


def query_string(model: type[BaseModel]) -> Schema:
    """`openapi_extra` of a route that reads its query string into `model` itself."""
    found = []
    for name, field in model.model_json_schema()["properties"].items():
        shown = dict(field)
        description = shown.pop("description", None)
        shown.pop("examples", None)
        found.append({"name": name, "in": "query", "required": False, "description": description, "schema": shown})
    return {"parameters": found}


def etag(description: str) -> Schema:
    """The headers of an answer that a client keeps and asks about again."""
    return {
        "ETag": {"description": description, "schema": {"type": "string", "maxLength": 64}},
        "Cache-Control": {
            "description": "For one user, asked about each time",
            "schema": {"type": "string", "maxLength": 64},
        },
    }


def conditional(extra: Schema) -> Schema:
    """`openapi_extra` of a route that answers 304 where If-None-Match has its ETag."""
    shown = {"type": "string", "maxLength": 1024}
    text = "ETags of what is at hand, or `*`: 304 where one of them is still right"
    header = {"name": "If-None-Match", "in": "header", "required": False, "description": text, "schema": shown}
    return {**extra, "parameters": [*extra.get("parameters", []), header]}


def created(model: type[BaseModel], *, links: Schema | None = None) -> dict[int | str, Schema]:
    """`responses` of a route that answers 201 with a Location, or 200 where there was something already."""
    both: Schema = {"model": model, **({"links": links} if links else {})}
    return {
        200: {**both, "description": "It was there already"},
        201: {**both, "description": "Created", "headers": LOCATION},
    }


def refusals(*names: str, binary: bool = False) -> dict[int | str, Schema]:
    """`responses` of a route: what it may be refused for, by slugs and GROUPS. Anything else is `default`.

    binary: the answer is no JSON. Generators that do not know its type would read it as what `default` says.
    """
    slugs = [slug for name in names for slug in GROUPS.get(name, (name,))]
    found = _answers([*slugs, "invalid-request", "not-ready", "internal"])
    if binary:
        return found
    return found | {"default": {"description": "Any other problem", **problem(["internal"])}}


def _answers(slugs: list[str]) -> dict[int | str, Schema]:
    by_status: dict[int, list[str]] = {}
    for slug in dict.fromkeys(slugs):
        by_status.setdefault(KINDS[slug][0], []).append(slug)
    found: dict[int | str, Schema] = {}
    for status, kinds in sorted(by_status.items()):
        found[status] = {"description": "; ".join(KINDS[slug][1] for slug in kinds), **problem(kinds)}
        if status in (429, 503):
            found[status]["headers"] = RETRY_AFTER
    return found


def problem(slugs: list[str]) -> Schema:
    """The content of a response that is one of these problems."""
    return {
        "content": {
            MEDIA_TYPE: {
                "schema": reference(problems.ProblemDetails),
                "examples": {
                    slug: {
                        "value": {
                            "type": f"/problems/{slug}",
                            "title": KINDS[slug][1],
                            "status": KINDS[slug][0],
                            "detail": KINDS[slug][1],
                            "instance": "/v1/collections/default",
                        }
                    }
                    for slug in slugs
                },
            }
        }
    }


def reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def _finish(path: str, operation: Schema) -> None:
    responses = operation["responses"]
    if needs(operation["operationId"]) == "open":
        operation["security"] = []
        refused = ["misdirected"]
    else:
        refused = ["unauthorized", "forbidden", "misdirected", "rate-limited"]
    for status, response in _answers(refused).items():
        responses.setdefault(str(status), response)
    operation["responses"] = dict(sorted(responses.items()))
    for response in responses.values():
        name = {each: {"$ref": f"#/components/headers/{each}"} for each in EVERYWHERE}
        response["headers"] = {**response.get("headers", {}), **name}
    text = " ".join(operation["description"].split("\n\n")[0].split())
    operation["summary"] = text.removesuffix(".")
    if "parameters" in operation:
        # FastAPI puts a dependency's parameters last; clients expect them as the path has them.
        order = {name: place for place, name in enumerate(_names(path))}
        operation["parameters"].sort(key=lambda each: order.get(each["name"], len(order)))
        for each in operation["parameters"]:
            each["schema"].pop("title", None)
            if shown := each["schema"].pop("examples", None):
                each["example"] = shown[0]


def _show(operation: Schema, known: recorded.Recorded) -> None:
    """Examples: of requests those that work as they are, of answers and problems those of a real service."""
    name = operation["operationId"]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        if asked := examples.REQUESTS.get(name):
            content["examples"] = {each: {"value": value} for each, value in asked.items()}
        elif sent := known.requests.get(name, {}).get(kind):
            content["examples"] = sent
    for status, response in operation["responses"].items():
        for kind, content in response.get("content", {}).items():
            if kind == MEDIA_TYPE:
                for slug, example in content["examples"].items():
                    example["value"] = known.problems.get(slug, example["value"])
            elif answered := known.answers.get(name, {}).get(status, {}).get(kind):
                content["examples"] = answered


def _names(path: str) -> Iterator[str]:
    for part in path.split("/"):
        if part.startswith("{"):
            yield part.strip("{}")


def _nullable(document: Schema) -> None:
    """An object that is null wherever it may be missing says so itself: readers take a union with null for a riddle."""
    text = json.dumps(document)
    nulls: dict[str, list[Schema]] = {}

    def gather(node: Any) -> None:
        if isinstance(node, dict):
            kinds = node.get("anyOf", ())
            if len(kinds) == 2 and kinds[1] == {"type": "null"} and "$ref" in kinds[0]:
                nulls.setdefault(kinds[0]["$ref"], []).append(node)
            for each in node.values():
                gather(each)
        elif isinstance(node, list):
            for each in node:
                gather(each)

    gather(document)
    for reference, nodes in nulls.items():
        if text.count(json.dumps(reference)) == len(nodes):
            document["components"]["schemas"][reference.rpartition("/")[2]]["type"] = ["object", "null"]
            for node in nodes:
                del node["anyOf"]
                node["$ref"] = reference


def _tidy(schema: Any) -> None:
    """Alternatives as generators read them best: types of a value side by side, one of several objects as such."""
    if isinstance(schema, list):
        for each in schema:
            _tidy(each)
    elif isinstance(schema, dict):
        for each in schema.values():
            _tidy(each)
        kinds = schema.get("anyOf")
        if not isinstance(kinds, list):
            return
        if all("$ref" in each for each in kinds):
            # pydantic knows only that a value is at least one of them.
            schema["oneOf"] = schema.pop("anyOf")
            return
        keywords = [key for each in kinds for key in each if key != "type"]
        plain = all(isinstance(each.get("type"), str) and each["type"] != "object" for each in kinds)
        if plain and len(set(keywords)) == len(keywords) and "enum" not in keywords:
            del schema["anyOf"]
            schema["type"] = [each["type"] for each in kinds]
            for each in kinds:
                for key, value in each.items():
                    schema.setdefault(key, value)
