"""What tests of imports over HTTP share: archives and tables made on the spot, sent, and waited for."""

from __future__ import annotations

import base64
import csv
import io
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.harness.serving import Server


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A .zip of these files, by path."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return made.getvalue()


def table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A .csv of these rows; the columns are the first one's."""
    made = io.StringIO()
    writer = csv.DictWriter(made, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue().encode()


def data_uri(image: bytes) -> str:
    """A picture as a cell of a table."""
    return "data:image/jpeg;base64," + base64.b64encode(image).decode()


def send(
    server: Server, collection: str, name: str, data: bytes, *, headers: Mapping[str, str] | None = None, **fields: Any
) -> httpx.Response:
    """POST of a file to import."""
    return server.client.post(
        f"/v1/collections/{collection}/imports",
        files={"file": (name, data)},
        data={key: str(value) for key, value in fields.items()},
        headers=dict(headers or {}),
    )


def ended(server: Server, collection: str, job: str, seconds: float = 240) -> dict[str, Any]:
    """The job once it has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found: dict[str, Any] = server.client.get(f"/v1/collections/{collection}/jobs/{job}").json()
        if found["state"] in ("done", "failed", "cancelled"):
            return found
        time.sleep(0.1)
    raise TimeoutError(f"job {job} has not ended: {found}")


def imported(server: Server, collection: str, name: str, data: bytes, **fields: Any) -> dict[str, Any]:
    """Sends a file and waits for the job's end."""
    answer = send(server, collection, name, data, **fields)
    assert answer.status_code == 202, answer.text
    return ended(server, collection, answer.json()["id"])


def left_out(server: Server, collection: str, job: str) -> list[dict[str, Any]]:
    """The lines about what was left out."""
    text = server.client.get(f"/v1/collections/{collection}/imports/{job}/errors").text
    return [json.loads(line) for line in text.splitlines()]


def ids(server: Server, collection: str) -> list[str]:
    """Of all items."""
    answer = server.client.get(f"/v1/collections/{collection}/items", params={"limit": 1000})
    return [item["id"] for item in answer.json()["items"]]
