"""Recorder: requests sent to a real service and what it answered, by operation, status and type of content."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import orjson

from service.http.openapi.recorded import Recorded
from service.http.problems import MEDIA_TYPE
from tests.harness.document import Judge

# A part of a form that is a file: its name and its bytes.
File = tuple[str, bytes]
LARGEST = 2**14  # bytes of an answer that the document itself holds
TEXTS = ("text/", "application/x-ndjson")


class Recorder:
    """Sends, and keeps the first answer of each kind; every one must be as the document says."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.kept = Recorded({}, {}, {})
        self._judge = Judge(document)

    def send(
        self,
        client: httpx.Client,
        method: str,
        path: str,
        *,
        name: str = "answer",
        status: int | None = None,
        json: Any = None,
        form: dict[str, Any] | None = None,
        body: File | None = None,
        **options: Any,
    ) -> httpx.Response:
        """One request. name: of the example; status: the one wanted, others are not kept; form: fields and files;
        body: a file that is the whole body. Files are shown as `@NAME`, as curl has them.

        Raises AssertionError where the answer is not as documented.
        """
        if form is not None:
            options["files"] = {key: each for key, each in form.items() if isinstance(each, tuple)}
            options["data"] = {key: each for key, each in form.items() if not isinstance(each, tuple)}
        if body is not None:
            options |= {"content": body[1], "headers": {"Content-Type": "application/octet-stream"}}
        response = client.request(method, path, json=json, **options)
        if status not in (None, response.status_code):
            return response
        operation = self.hear(response, name)
        if operation is not None and response.is_success and (form or body):
            shown = f"@{body[0]}" if body else {key: _shown(each) for key, each in (form or {}).items()}
            kind = response.request.headers["Content-Type"].partition(";")[0]
            self.kept.requests.setdefault(operation, {}).setdefault(kind, {}).setdefault(name, {"value": shown})
        return response

    def hear(self, response: httpx.Response, name: str = "answer") -> str | None:
        """Keeps an answer, if it is the first of its kind; gives the operation that it is of."""
        self._judge.check(response)
        operation = self._judge.operation(response.request.method, response.request.url.path)
        if operation is None:
            return None
        id: str = operation["operationId"]
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if kind == MEDIA_TYPE:
            problem = response.json()
            self.kept.problems.setdefault(problem["type"].rpartition("/")[2], problem)
        elif response.is_success and response.content:
            by_status = self.kept.answers.setdefault(id, {})
            by_status.setdefault(str(response.status_code), {}).setdefault(kind, {}).setdefault(name, _read(response))
        return id


def _shown(value: Any) -> Any:
    return f"@{value[0]}" if isinstance(value, tuple) else value


def _read(response: httpx.Response) -> dict[str, Any]:
    """An OpenAPI example object. Bytes that are no text are written as an address that holds them; as `externalValue`
    some generators would look for a file of that name."""
    kind = response.headers["Content-Type"].partition(";")[0]
    if kind == "application/json":
        return {"value": response.json()}
    if kind.startswith(TEXTS):
        return {"value": response.text}
    if len(response.content) > LARGEST:
        address = response.request.url.raw_path.decode()
        return {"summary": "Too many bytes to be shown; where they were", "value": address}
    packed = base64.b64encode(response.content).decode()
    return {"summary": "The bytes, written as a data: address", "value": f"data:{kind};base64,{packed}"}


def write(kept: Recorded, path: Path, *, data: str) -> None:
    """One file, by operation in order. data: the directory of the services, which is shown as /data."""
    document = {
        name: {key: each[key] for key in sorted(each)}
        for name, each in (("answers", kept.answers), ("problems", kept.problems), ("requests", kept.requests))
    }
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    path.write_bytes(text.replace(data.encode(), b"/data"))
