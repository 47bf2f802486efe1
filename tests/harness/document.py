"""The OpenAPI document as a judge: an answer is of a documented status, content type and shape, or the test fails."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match

SOMETIMES = {"Access-Control-Allow-Origin"}  # to pages of configured origins
PROBLEM = "application/problem+json"


class Judge:
    """Holds answers against one OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._root = document["servers"][0]["url"].rstrip("/")
        self._paths = [
            (re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))), operations)
            for path, operations in document["paths"].items()
        ]
        self._validators: dict[str, Draft202012Validator] = {}

    def check(self, response: httpx.Response) -> None:
        """Raises AssertionError where the answer is not what the document says."""
        request = response.request
        where = f"{request.method} {request.url.raw_path.decode()[:200]} → {response.status_code}"
        kind = response.headers.get("content-type", "").split(";")[0]
        operation = self.operation("GET" if request.method == "HEAD" else request.method, request.url.path)
        if operation is None:
            if response.status_code >= 400:
                assert kind == PROBLEM, f"{where}: an error as {kind}"
                self._valid(where, {"$ref": "#/components/schemas/ProblemDetails"}, response)
            return
        described = operation["responses"].get(str(response.status_code))
        if described is None and response.status_code >= 500:
            described = operation["responses"].get("default", operation["responses"].get("500"))
        assert described is not None, f"{where}: a status that is not documented"
        content = described.get("content")
        if content is None:
            assert not response.content, f"{where}: a body where the document has none"
            return
        assert kind in content, f"{where}: content of type {kind}, documented are {', '.join(content)}"
        for name in described.get("headers", {}).keys() - SOMETIMES:
            assert name in response.headers, f"{where}: no header {name}"
        if kind.endswith(("/json", "+json")) and request.method != "HEAD":
            self._valid(where, content[kind]["schema"], response)

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """What the document says of a request: that of the path with the fewest parameters, as the router has it."""
        path = path.removeprefix(self._root)
        found = [operations for pattern, operations in self._paths if pattern.fullmatch(path)]
        operations = [each[method.lower()] for each in found if method.lower() in each]
        operation: dict[str, Any] | None = operations[0] if operations else None
        return operation

    def _valid(self, where: str, schema: dict[str, Any], response: httpx.Response) -> None:
        key = repr(schema)
        if key not in self._validators:
            rooted = {**schema, "components": self._document["components"]}
            self._validators[key] = Draft202012Validator(rooted, format_checker=FormatChecker())
        error = best_match(self._validators[key].iter_errors(response.json()))
        assert error is None, f"{where}: {error.json_path}: {error.message[:500]}"


@lru_cache(maxsize=8)
def judge(text: bytes) -> Judge:
    """The judge of a document's bytes; servers of one version share it."""
    return Judge(httpx.Response(200, content=text).json())
