"""`/docs` in a real browser: each operation works as it is prefilled, given a picture."""

from __future__ import annotations

import base64
import json

import pytest
from playwright.sync_api import Browser, FilePayload

from tests.conftest import StartServer
from tests.harness.pictures import encoded, pixels
from tests.harness.serving import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Putting comes first and deleting last, so that the prefilled names name something.
LAST = ("delete_item", "delete_collection")


@pytest.fixture
def running(server: StartServer) -> Server:
    return server()


def order(operation: str) -> int:
    name = operation.rsplit("-", 1)[1]
    return -1 if name == "put_item" else LAST.index(name) + 1 if name in LAST else 0


def test_every_operation_works_as_prefilled(running: Server, browser: Browser) -> None:
    """Try it out, choose a picture where one is asked for, Execute: 2xx from each operation of the document."""
    document = running.client.get("/openapi.json").json()
    wanted = {each["operationId"] for methods in document["paths"].values() for each in methods.values()}
    picture: FilePayload = {"name": "a.png", "mimeType": "image/png", "buffer": encoded(pixels(1), "PNG")}
    inside = base64.b64encode(picture["buffer"]).decode()
    rows = f"id,image\nnew,data:image/png;base64,{inside}\n"
    table: FilePayload = {"name": "a.csv", "mimeType": "text/csv", "buffer": rows.encode()}
    # The name of a job is made by the service, so no document can know one.
    of_a_job = {
        operation["operationId"]
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if "{job}" in path
    }
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(running.url + "/docs")
    page.wait_for_selector(".opblock")
    blocks: list[str] = page.eval_on_selector_all(".opblock", "found => found.map(each => each.id)")
    assert {each.rsplit("-", 1)[1] for each in blocks} == wanted
    answers = {}
    for name in sorted(blocks, key=order):
        block = page.locator(f"[id='{name}']")
        block.locator(".opblock-summary-control").first.click()
        block.locator(".try-out__btn").click()
        for chooser in block.locator("input[type=file]").all():
            chooser.set_input_files([table if name.endswith("-create_import") else picture])
        with page.expect_response(lambda response: "/openapi.json" not in response.url) as got:
            block.locator(".execute").click()
        answers[name.rsplit("-", 1)[1]] = got.value.status
        if name.endswith("-search_by_image"):
            found = json.loads(got.value.text())
            assert [each["id"] for each in found["results"]] == ["shirt-1"], "the prefilled fields hide the picture"
        block.locator(".opblock-summary-control").first.click()
    page.close()
    assert complaints == []
    assert {name: answers.pop(name) for name in of_a_job} == dict.fromkeys(of_a_job, 404)
    # Nothing is calibrated, and one picture is no archive of pictures without a match.
    uncalibrated = {
        "get_calibration": 404,
        "get_calibration_plot": 404,
        "delete_calibration": 404,
        "create_calibration": 415,
    }
    assert {name: answers.pop(name) for name in uncalibrated} == uncalibrated
    assert {name: status for name, status in answers.items() if status >= 300} == {}
