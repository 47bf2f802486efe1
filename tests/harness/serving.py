"""Tests that speak HTTP speak to the real command: a process, a port and a data directory of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.harness.document import judge
from tests.harness.process import ROOT, ServerProcess, clean_environment, command, free_port

__all__ = ["ROOT", "Server", "clean_environment", "command", "free_port"]


class Server(ServerProcess):
    """A running `lookalike serve`.

    `client` is an httpx client with its address as base; each of its answers must be as the server's own OpenAPI
    document says.
    """

    def __init__(self, data_dir: Path, model_dir: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__(data_dir, model_dir, env)
        self._document: bytes | None = None
        self.client = self.new_client()

    def new_client(self, **options: Any) -> httpx.Client:
        """One more client, for another thread or with other `options` of httpx."""
        hooks = {"response": [self._checked]}
        return httpx.Client(**{"base_url": self.url, "timeout": 60, "trust_env": False, **options}, event_hooks=hooks)

    def new_async_client(self, **options: Any) -> httpx.AsyncClient:
        """The same for many requests at a time."""

        async def checked(response: httpx.Response) -> None:
            await response.aread()
            self._checked(response)

        hooks = {"response": [checked]}
        return httpx.AsyncClient(
            **{"base_url": self.url, "timeout": 60, "trust_env": False, **options}, event_hooks=hooks
        )

    def _checked(self, response: httpx.Response) -> None:
        if self._document is None:
            asked = httpx.get(f"{self.url}/openapi.json", trust_env=False, timeout=60)
            assert asked.status_code == 200, f"no document: {asked.text[:200]}"
            self._document = asked.content
        response.read()
        judge(self._document).check(response)

    def put(self, collection: str, id: str, image: bytes, metadata: str = "{}") -> httpx.Response:
        """PUT of one item, as multipart."""
        return self.client.put(
            f"/v1/collections/{collection}/items/{id}", files={"image": ("image", image)}, data={"metadata": metadata}
        )

    def search(self, collection: str, image: bytes, **fields: Any) -> httpx.Response:
        """POST of one picture to /search, as multipart."""
        return self.client.post(
            f"/v1/collections/{collection}/search",
            files={"image": ("image", image)},
            data={key: str(value) for key, value in fields.items()},
        )

    def close(self) -> None:
        self.client.close()
        super().close()
