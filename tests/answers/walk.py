"""Walk: at least one request to each operation of a service with the sample catalogue, as a shop would come by them.

A new operation gets its request here, where its collection is in the state that the answer is to show; one whose body
is JSON is asked with each of its examples in `service/http/openapi/examples.py` (`each`).
"""

from __future__ import annotations

import io
import time
import zipfile
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from service.http.openapi.examples import REQUESTS
from tests.answers.recorder import File, Recorder
from tests.harness.pictures import jpeg, png_header

C = "/v1/collections/default"
SHIRTS = {
    "shirt-1": ("clothing:t-shirt", '{"brand": "acme", "price": 12.5, "color": "blue"}'),
    "shirt-2": ("clothing:blouse", '{"brand": "acme", "price": 19, "color": "pink"}'),
    "shirt-3": ("clothing:shirt-and-tie", '{"brand": "north", "price": 35, "color": "white"}'),
}
SMALL = "/v1/collections/shirts"
# A collection whose work as a whole takes more than the second that an answer waits for it.
LARGE, LARGE_COUNT = "/v1/collections/large", 12_000
WAIT = 120.0


@dataclass(frozen=True, slots=True)
class Walk:
    """A service whose collection `default` holds the sample, and what records its answers."""

    recorder: Recorder
    client: httpx.Client

    def send(self, method: str, path: str, **asked: Any) -> httpx.Response:
        return self.recorder.send(self.client, method, path, **asked)

    def each(self, operation: str, method: str, path: str) -> None:
        """The operation with each of its examples, which must work."""
        for name, body in REQUESTS[operation].items():
            answer = self.send(method, path, name=name, json=body)
            assert answer.is_success, f"{operation}, {name}: {answer.text[:500]}"

    def all(self) -> None:
        self.system()  # metrics are short while little has happened
        picture = self.shirts()
        self.searches(picture)
        self.items()
        self.collections()
        self.imports()
        self.calibration()
        self.analyses()
        self.refused(picture)
        self.each("delete_items", "POST", f"{C}/items/delete")

    def shirts(self) -> File:
        """Three items beside the sample's, and in a collection of their own; the picture of the first."""
        pictures = {}
        for id, (source, metadata) in SHIRTS.items():
            pictures[id] = (f"{id}.webp", self.client.get(f"{C}/items/{source}/thumbnail").content)
            for path in (C, C, SMALL):  # 201, then 200 where nothing changed
                if path == SMALL:
                    self.client.put(SMALL)
                self.send("PUT", f"{path}/items/{id}", form={"image": pictures[id], "metadata": metadata})
        return pictures["shirt-1"]

    def searches(self, picture: File) -> None:
        self.send("POST", f"{C}/search", form={"image": picture, "limit": 3})
        none = {"image": picture, "score_threshold": 1, "filter": '{"must":[{"key":"brand","match":"north"}]}'}
        self.send("POST", f"{C}/search", name="nothing similar", form=none)
        self.send("POST", f"{C}/search/raw", params={"limit": 3}, body=picture)
        self.send("GET", f"{C}/items/shirt-1/similar", params={"limit": 3})
        self.each("query", "POST", f"{C}/query")
        self.each("query_batch", "POST", f"{C}/query/batch")
        self.each("similar_batch", "POST", f"{C}/similar/batch")
        self.each("create_embeddings", "POST", "/v1/embeddings")
        self.send("GET", "/v1/models")

    def items(self) -> None:
        self.send("GET", f"{C}/items", params={"limit": 2})
        self.send("GET", f"{C}/items/shirt-1")
        self.each("update_item", "PATCH", f"{C}/items/shirt-1")
        self.send("GET", f"{C}/items/shirt-1/thumbnail")
        shirts = '{"must":[{"key":"brand","match":"north"}]}'
        for format in ("csv", "jsonl"):
            self.send("GET", f"{C}/export", params={"format": format, "vectors": False, "filter": shirts})
        for format in ("parquet", "zip"):
            self.send("GET", f"{C}/export", params={"format": format, "filter": shirts})

    def collections(self) -> None:
        shoes = "/v1/collections/shoes"
        self.each("create_collection", "PUT", shoes)
        self.send("GET", "/v1/collections")
        self.send("GET", C)
        self.each("update_collection", "PATCH", shoes)

    def imports(self) -> None:
        table = ("feed.csv", b"id,image,price\nshirt-4,shirt-4.webp,29\n")
        path = self.send("POST", f"{C}/imports", form={"file": table}).headers["Location"]
        self.ended(path)
        for part in ("", "/errors", "/events"):
            self.send("GET", path + part)
        self.send("GET", f"{C}/imports", params={"limit": 2})
        self.send("DELETE", path)

    def calibration(self) -> None:
        few, many = _zipped(range(5)), _zipped(range(100, 700))
        short = {"negatives": ("strangers.zip", few), "false_accept_rate": 0.25}
        for _ in range(20):  # on a machine that is busy even this may take more than the second
            answer = self.send("POST", f"{C}/calibration", status=200, form=short)
            if answer.status_code == 200:
                break
            self.ended(answer.headers["Location"])
        self.send("GET", f"{C}/calibration")
        self.send("GET", f"{C}/calibration/plot")
        longer = {"negatives": ("strangers.zip", many), "false_accept_rate": 0.01}
        path = self.send("POST", f"{C}/calibration", form=longer).headers["Location"]
        self.send("GET", f"{path}/result")
        self.send("GET", path)
        self.ended(path)
        self.send("GET", f"{path}/result")
        self.send("GET", f"{path}/events")
        self.send("GET", f"{C}/jobs", params={"limit": 2})
        self.send("DELETE", path)

    def analyses(self) -> None:
        self.large()
        self.send("GET", f"{SMALL}/neighbors", status=200, params={"limit": 2})
        self.send("GET", f"{LARGE}/neighbors", params={"limit": 2})

    def large(self) -> None:
        """Vectors of noise, which no index finds in less than they take."""
        made = np.random.default_rng(1).standard_normal((LARGE_COUNT, 2048)).astype("<f2")
        file = io.BytesIO()
        np.save(file, made)
        self.client.put(LARGE).raise_for_status()
        sent = self.client.post(f"{LARGE}/imports", files={"file": ("noise.npy", file.getvalue())})
        self.ended(sent.headers["Location"])

    def system(self) -> None:
        for path in ("/livez", "/readyz", "/metrics", "/v1/info"):
            self.send("GET", path)

    def ended(self, path: str) -> dict[str, Any]:
        """The job, once it has ended; unrecorded. Raises AssertionError where it failed."""
        until = time.monotonic() + WAIT
        while not (job := self.client.get(path).json())["finished_at"]:
            assert time.monotonic() < until, f"{path} has not ended within {WAIT:.0f} s"
            time.sleep(0.1)
        assert job["state"] == "done", job
        return dict(job)

    def refused(self, picture: File) -> None:
        """One of each kind of problem that a request alone brings about."""
        self.send("GET", f"{C}/items/shirt-9")
        self.send("POST", f"{C}/search", form={"image": ("notes.txt", b"no picture")})
        self.send("POST", f"{C}/search", form={"image": ("cut.jpg", jpeg(1)[:2000])})
        self.send("POST", f"{C}/search", form={"image": ("huge.png", png_header(20_000, 20_000))})
        self.send("POST", f"{C}/search", form={"image": picture, "limit": 0})
        self.send("POST", f"{C}/search", json={"image": "shirt-1.webp"})
        self.send("POST", f"{C}/search", form={"image": ("large.jpg", bytes(21 * 2**20))})
        self.send("POST", f"{C}/query", json={"image_url": "https://shop.example/shirt-1.webp"})
        self.send("POST", f"{C}/calibration", form={"negatives": ("strangers.zip", b"PK\3\4 cut")})
        self.send("GET", "/v1/info", headers={"Host": "shop.example"})


def _zipped(numbers: range) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in numbers:
            archive.writestr(f"stranger-{number}.jpg", jpeg(number, (640, 480)))
    return packed.getvalue()
