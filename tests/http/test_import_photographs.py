"""A shop's archive of real photographs with broken files in it: the job and the command say exactly what came in."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.conftest import Photos, StartServer
from tests.harness.importing import imported, left_out

pytestmark = pytest.mark.slow
COUNT = 100


def planted(photograph: bytes) -> dict[str, tuple[bytes, str]]:
    """Ten broken files, and the slug that each has to get."""
    return {
        "broken/empty.jpg": (b"", "unsupported-image"),
        "broken/page.jpg": (b"<!doctype html><title>404</title>", "unsupported-image"),
        "broken/text.png": (b"no picture", "unsupported-image"),
        "broken/zeros.webp": (bytes(5000), "unsupported-image"),
        "broken/gif.gif": (b"GIF89a" + bytes(40), "unsupported-image"),
        "broken/cut.jpg": (photograph[: len(photograph) // 3], "image-undecodable"),
        "broken/head.jpg": (photograph[:200], "image-undecodable"),
        "broken/signature.png": (b"\x89PNG\r\n\x1a\n" + bytes(30), "image-undecodable"),
        "../outside.jpg": (photograph, "unsafe-entry"),
        "broken/damaged.jpg": (photograph, "unreadable"),
    }


def test_an_archive_of_photographs_with_ten_broken_files(
    module_server: StartServer, photos: Photos, tmp_path: Path
) -> None:
    """Skips where the photographs are absent."""
    chosen = photos("clothing", "catalogue")[:COUNT]
    broken = planted(chosen[0].read())
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for photo in chosen:
            archive.writestr(f"{photo.label}/{photo.path.name}", photo.read())
        for path, (content, _) in broken.items():
            archive.writestr(path, content)
    data = bytearray(made.getvalue())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        data[archive.getinfo("broken/damaged.jpg").header_offset + 2000] ^= 0xFF
    file = tmp_path / "clothing.zip"
    file.write_bytes(data)
    expected = {path: slug for path, (_, slug) in broken.items()}
    wanted = {f"{photo.label}/{photo.path.name}": photo.label for photo in chosen}

    server = module_server()
    server.client.put("/v1/collections/clothes")
    job = imported(server, "clothes", file.name, bytes(data))
    assert [job[name] for name in ("state", "total", "done", "unchanged", "failed")] == [
        "done",
        COUNT + 10,
        COUNT,
        0,
        10,
    ]
    assert {line["path"]: line["slug"] for line in left_out(server, "clothes", job["id"])} == expected
    items = server.client.get("/v1/collections/clothes/items", params={"limit": 1000}).json()["items"]
    assert {each["metadata"]["path"]: each["metadata"]["folder"] for each in items} == wanted
    assert all(set(each["metadata"]) == {"path", "folder"} for each in items)

    done = server.cli("import", str(file), "--collection", "clothes-too", "--json")
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout)
    assert [summary[name] for name in ("created", "unchanged", "failed")] == [COUNT, 0, 10]
    assert {line["path"]: line["slug"] for line in summary["errors"]} == expected
    assert server.client.get("/v1/collections/clothes-too").json()["count"] == COUNT
