"""Importing a folder beside the answering server: people's pictures go first, and trouble is one log line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from index.errors import StoreError
from models.errors import ModelsError
from service.errors import ServiceError
from service.imports import roots
from service.imports.logged import run_logged
from service.imports.roots import RootConflict
from service.imports.sources.opening import open_pictures
from service.imports.sources.source import Pictures, SourceError
from service.imports.targets.catalogue_target import CatalogueTarget
from service.runtime import Runtime
from service.sample.presence import give_way

log = logging.getLogger("lookalike.import")


async def import_folder(runtime: Runtime, *, root: Path, collection: str) -> None:
    """Imports a folder into a collection, which is made where there is none."""
    try:
        plan = await asyncio.to_thread(open_pictures, root, leave_out=(runtime.settings.data_dir,))
        with contextlib.closing(plan):
            await _import(runtime, plan, root, collection)
    except RootConflict as error:
        log.error("%s was not imported: %s; `lookalike import` has these options", root, error)
    except (SourceError, ModelsError, StoreError, ServiceError) as error:
        log.error("importing %s stopped: %s", root, error)


async def _import(runtime: Runtime, plan: Pictures, root: Path, collection: str) -> None:
    found, _ = await runtime.write(runtime.create_collection, collection)
    if plan.count:
        gave_way = await runtime.write(give_way, runtime.catalogue, collection, runtime.model.record)
        if gave_way:
            log.info("the sample makes room for %s", root)
    target = await CatalogueTarget.open(
        found, runtime.pipeline, runtime.threads, max_bytes=runtime.settings.max_upload_bytes
    )
    await roots.check(plan.sources(), target)
    await run_logged(plan.sources(), target, total=plan.count, what=str(root), bad=plan.bad)
