"""A picture for which the network gives no direction is the caller's 422, and nothing of it is stored."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from models.preprocessing import Preprocessing
from models.runtimes.onnxruntime import unit_rows
from service.http.app import create_app
from service.runtime import Runtime
from service.settings import Settings
from tests.harness.pictures import jpeg


class Broken:
    """An embedder whose network answers the same number everywhere, checked as every network's answer is."""

    def __init__(self, fingerprint: str, dim: int, value: float) -> None:
        self.fingerprint = fingerprint
        self.dim = dim
        self.preprocessing = Preprocessing()
        self._value = value

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return unit_rows(np.full((len(pixels), self.dim), self._value, np.float32))

    def embed_with_map(self, pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        return self.embed(pixels), np.full((len(pixels), 1, 1, self.dim), self._value, np.float32)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_an_embedding_without_direction_is_422_and_not_stored(tmp_path: Path, model_dir: Path, value: float) -> None:
    async def main() -> None:
        runtime = await Runtime.open(Settings(data_dir=tmp_path, model_dir=model_dir, threads=1))
        try:
            default = runtime.model
            broken = Broken(default.fingerprint, default.artefact.dim, value)
            runtime.pipeline.networks.keep(replace(default, narrow=broken, wide=broken))
            transport = httpx.ASGITransport(create_app(runtime))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                answer = await client.put("/v1/collections/default/items/a", files={"image": ("a.jpg", jpeg(1))})
                assert (answer.status_code, answer.json()["type"]) == (422, "/problems/image-undecodable")
                assert (await client.get("/v1/collections/default")).json()["count"] == 0
        finally:
            await runtime.close()

    asyncio.run(asyncio.wait_for(main(), 120))
