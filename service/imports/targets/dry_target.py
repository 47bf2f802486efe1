"""The target of a dry run: it looks at every picture as an import would, and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import ImageError
from service.embedding.loaded import LoadedModel
from service.embedding.pipeline import Pipeline
from service.fetching.fetcher import Validators
from service.imports.rule import Stored
from service.imports.targets.catalogue_target import CatalogueTarget, slug_of
from service.imports.targets.target import PictureRefused


class DryTarget:
    """`Target` over another one that knows what is there."""

    def __init__(self, real: CatalogueTarget, network: LoadedModel, pipeline: Pipeline) -> None:
        self._real = real
        self._network = network
        self._pipeline = pipeline
        self.lanes = real.lanes
        self.max_bytes = real.max_bytes
        self.written = 0  # what would be

    async def known(self, ids: Sequence[str]) -> Mapping[str, Stored]:
        return await self._real.known(ids)

    async def under(self, paths: Sequence[str]) -> Mapping[str, Stored]:
        return await self._real.under(paths)

    async def put(self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any]) -> None:
        try:
            await self._pipeline.decodes(data, network=self._network)
        except ImageError as error:
            raise PictureRefused(str(error), slug_of(error)) from None
        self.written += 1

    async def describe(
        self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any], *, keep: bool = True
    ) -> None:
        return None

    async def versions(self, urls: Sequence[str]) -> Mapping[str, Validators]:
        return await self._real.versions(urls)

    async def remember(self, url: str, said: Validators) -> None:
        return None

    async def finish(self) -> None:
        return None
