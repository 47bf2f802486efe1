"""Imports that run beside the answering server: people's pictures go first, and trouble is told in one log line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from index.errors import StoreError
from index.types import Collection
from models.errors import ModelsError
from service.cli.terminal import one_line
from service.errors import ServiceError
from service.imports.engine import Tally, run
from service.imports.sources import folder
from service.imports.sources.folder import Bad, FolderError, Source
from service.imports.targets import here
from service.runtime import DEFAULT, Runtime
from service.sample.things import are_sample, catalogue

log = logging.getLogger("lookalike.import")

LOG_EVERY_S = 10.0
BAD_LOGGED = 20


async def import_folder(runtime: Runtime, *, root: Path, collection: str) -> None:
    """Imports a folder into a collection, which is made where there is none."""
    try:
        plan = await asyncio.to_thread(folder.plan, root, leave_out=(runtime.settings.data_dir,))
        found, _ = await runtime.write(runtime.create_collection, collection)
        if len(plan.sources) > 0 and await runtime.read(_only_sample, found):
            log.info("the sample makes room for %s", root)
            await runtime.write(runtime.catalogue.clear, collection)
        await import_sources(runtime, plan.sources, collection, what=str(root), bad=plan.bad)
    except (FolderError, ModelsError, StoreError, ServiceError) as error:
        log.error("importing %s stopped: %s", root, error)


def _only_sample(collection: Collection) -> bool:
    """Whether a collection holds items, and all of them came with the sample."""
    if collection.name != DEFAULT or not 0 < collection.count() <= len(catalogue()):
        return False
    return are_sample((item.id, item.metadata) for item in collection.scan(limit=1000).items)


async def import_sources(
    runtime: Runtime, sources: Sequence[Source], collection: str, *, what: str, bad: Sequence[Bad] = ()
) -> Tally:
    """Imports and logs how it goes. Raises ModelsError, StoreError, ServiceError."""
    target = await here(runtime, collection)
    logged = time.monotonic()

    def tell(tally: Tally) -> None:
        nonlocal logged
        if time.monotonic() - logged >= LOG_EVERY_S:
            logged = time.monotonic()
            log.info("importing %s: %d of %d", what, tally.handled, tally.total)

    log.info("importing %s: %d pictures", what, len(sources))
    tally = await run(sources, target, bad=bad, on_progress=tell)
    for row in tally.bad[:BAD_LOGGED]:
        log.warning("not imported: %s: %s", one_line(row.path), row.reason)
    if len(tally.bad) > BAD_LOGGED:
        log.warning("not imported: %d more; `lookalike import` lists them all", len(tally.bad) - BAD_LOGGED)
    log.info(
        "imported %s: %d new, %d changed, %d unchanged, %d bad in %.1f s",
        what, tally.created, tally.replaced, tally.unchanged, len(tally.bad), tally.seconds,
    )  # fmt: skip
    return tally
