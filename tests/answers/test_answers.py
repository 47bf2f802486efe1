"""The examples in the document: every success has a real answer, every problem that can be provoked a real one."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from service.http.openapi import recorded
from service.http.openapi.committed import document
from service.http.openapi.examples import REQUESTS
from service.http.problems import MEDIA_TYPE
from service.http.schemas.problems import KINDS
from tests.answers.__main__ import COMMIT, filled, merged

DOCUMENT: dict[str, Any] = json.loads(orjson.dumps(document()))
OPERATIONS = {
    operation["operationId"]: operation for methods in DOCUMENT["paths"].values() for operation in methods.values()
}
RECORDED = recorded.read()
# Answered by the connection before an operation is known, when nothing else works, or inside of jobs.
UNPROVOKED = {"malformed-http", "method-not-allowed", "internal", "storage-read-only", "storage-failed", "sync-refused"}


def valid(schema: dict[str, Any], value: Any) -> bool:
    rooted = {**schema, "components": DOCUMENT["components"]}
    return bool(Draft202012Validator(rooted, format_checker=FormatChecker()).is_valid(value))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_success_shows_a_real_answer(name: str) -> None:
    how = f"add a request to tests/answers/walk.py, then: python -m tests.answers {name} && {COMMIT}"
    for status, response in OPERATIONS[name]["responses"].items():
        for kind, content in response.get("content", {}).items() if status < "3" else ():
            shown = content.get("examples")
            assert shown, f"{name} has no example of its {status} {kind}: {how}"
            for each in shown.values():
                assert valid(content["schema"], each["value"]), (
                    f"{name}: {status} {kind} is not as its schema says any more: {how}"
                )


@pytest.mark.parametrize("name", [name for name, each in OPERATIONS.items() if "requestBody" in each])
def test_every_request_shows_one_that_works(name: str) -> None:
    """Those of JSON were answered as they are; a file of a form is shown as curl has it, `@NAME`."""
    for kind, content in OPERATIONS[name]["requestBody"]["content"].items():
        if kind == "application/json":
            assert REQUESTS.get(name), f"{name} has no example: add one to REQUESTS of service/http/openapi/examples.py"
            answered = [each for status in RECORDED.answers[name].values() for each in status[kind]]
            assert set(REQUESTS[name]) <= set(answered), (
                f"{name} was not asked with each example: each() in tests/answers"
            )
        assert content.get("examples"), f"{name} has no example of its {kind}: python -m tests.answers {name}"
        for each in content["examples"].values():
            assert valid(content["schema"], each["value"]), name


def test_problems_are_those_that_were_answered() -> None:
    lacking = set(KINDS) - UNPROVOKED - RECORDED.problems.keys()
    assert not lacking, f"{lacking}: provoke them in tests/answers, then: python -m tests.answers && {COMMIT}"
    for name, operation in OPERATIONS.items():
        for response in operation["responses"].values():
            for slug, each in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).items():
                assert each["value"]["status"] == KINDS[slug][0], f"{name}: {slug}"
                assert valid({"$ref": "#/components/schemas/ProblemDetails"}, each["value"]), f"{name}: {slug}"
                assert slug in UNPROVOKED or each["value"] == RECORDED.problems[slug], f"{name}: {slug}"


def test_answers_that_are_no_text_are_the_bytes_themselves() -> None:
    (picture,) = RECORDED.answers["get_thumbnail"]["200"]["image/webp"].values()
    kind, _, packed = picture["value"].partition(";base64,")
    assert kind == "data:image/webp" and base64.b64decode(packed)[8:12] == b"WEBP"


def test_nothing_of_the_machine_is_committed() -> None:
    said = recorded.RECORDED.read_text()
    assert [each for each in ("/tmp", "/home", "/root", "/work") if each in said] == []


def test_recording_again_changes_what_is_named_or_missing_and_nothing_else() -> None:
    old = recorded.Recorded({"a": {"200": {"j": {"one": {"value": 1}}}}}, {}, {"gone": {"status": 1}})
    new = recorded.Recorded(
        {"a": {"200": {"j": {"one": {"value": 2}, "two": {"value": {"value": 3}}}}}, "b": {"200": {}}},
        {},
        {"gone": {"status": 2}},
    )
    one, two = {"value": 1}, {"value": {"value": 3}}
    assert merged(old, new, set()).answers == {"a": {"200": {"j": {"one": one, "two": two}}}, "b": {"200": {}}}
    assert merged(old, new, {"a"}).answers == new.answers
    assert merged(old, new, set()).problems == old.problems and merged(old, new, {"gone"}).problems == new.problems
    assert filled({"value": {"x": 1}}, {"value": {"y": 2}}) == {"value": {"x": 1}}
