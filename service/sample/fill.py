"""A first run finds something: a few hundred rendered things, fetched, verified, imported once, forced on nobody.

The pictures are Microsoft's Fluent emoji (MIT) out of a pinned npm package; see NOTICE.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from index.errors import RecordNotFound, StoreError
from index.records import Records
from models.build.fetch import fetch_npm
from models.errors import ModelsError, WeightsCorrupt
from service.errors import ServiceError
from service.imports.logged import run_logged
from service.imports.sources.folder import read_file
from service.imports.sources.source import Source
from service.imports.targets.catalogue_target import CatalogueTarget
from service.runtime import DEFAULT, Runtime
from service.sample.presence import is_wanted
from service.sample.things import catalogue

R = TypeVar("R")

log = logging.getLogger("lookalike.sample")

PACKAGE = "@lobehub/fluent-emoji-3d"
VERSION = "1.1.0"
SHA512 = "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g=="

# Photographs score low against renderings, and the model's default would find nothing: of unrelated photographs 93 %
# reach this, of clothes 98 %, of groceries all; of noise none. Measured, see docs/decisions.md.
THRESHOLD = 0.27
# The record that says the sample was here; earlier versions left a file in the data directory.
MARKER = ("sample", "filled")
FILLED = "sample-filled"


def unpack(tarball: Path, into: Path) -> list[Source]:
    """Takes the pictures of the catalogue out of the package, one file each. Raises WeightsCorrupt.

    Files are named by code points ("1f34e.webp", some "1f336-fe0f.webp"); nothing else of the package is touched.
    """
    wanted = {f"package/assets/{ord(each['emoji']):04x}": (id, each) for id, each in catalogue().items()}
    sources: list[Source] = []
    try:
        with tarfile.open(tarball) as archive:
            for member in archive:
                known = wanted.pop(member.name.removesuffix(".webp").removesuffix("-fe0f"), None)
                content = archive.extractfile(member) if known is not None and member.isreg() else None
                if known is None or content is None:
                    continue
                id, metadata = known
                file = into / f"{len(sources)}.webp"
                with file.open("wb") as target:
                    shutil.copyfileobj(content, target)
                sources.append(Source(id, metadata, partial(read_file, str(file)), id))
    except (tarfile.TarError, EOFError) as error:
        raise WeightsCorrupt(f"{tarball} cannot be unpacked: {error}") from error
    if wanted:
        raise WeightsCorrupt(f"{tarball} lacks {len(wanted)} of the sample pictures")
    return sorted(sources, key=lambda source: source.id)


def was_here(records: Records, data_dir: Path) -> bool:
    """Whether this catalogue had the sample before. A file that an earlier version left becomes a record."""
    file = data_dir / FILLED
    if file.exists():
        records.put(*MARKER, {"package": PACKAGE, "version": file.read_text().strip().rpartition(" ")[2]})
        file.unlink()
    try:
        records.get(*MARKER)
    except RecordNotFound:
        return False
    return True


async def fill(runtime: Runtime) -> None:
    """Fetches and imports the sample into `default` where it is wanted; one log line says why where that cannot be.

    Once only: who empties the collection afterwards does not get it back.
    """
    records = runtime.catalogue.records
    try:
        collection = runtime.collection(DEFAULT)
        if await runtime.write(was_here, records, runtime.settings.data_dir):
            log.info("no sample: it was here before")
            return
        if not await runtime.read(is_wanted, collection):
            log.info("no sample: %s has pictures of its own", DEFAULT)
            return
        fresh = await runtime.read(collection.count) == 0
        directory = runtime.settings.data_dir / "sample"
        tarball = await _aside(lambda: fetch_npm(PACKAGE, VERSION, SHA512, directory))
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            sources = await asyncio.to_thread(unpack, tarball, Path(scratch))
            if fresh and collection.score_threshold is None:
                await runtime.write(collection.set_score_threshold, THRESHOLD)
            target = await CatalogueTarget.open(
                collection, runtime.pipeline, runtime.threads, max_bytes=runtime.settings.max_upload_bytes
            )
            await run_logged(sources, target, total=len(sources), what="the sample")
        await runtime.write(records.put, *MARKER, {"package": PACKAGE, "version": VERSION})
        # 16 MB that nobody needs again.
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    except (ModelsError, StoreError, ServiceError, OSError) as error:
        log.warning("no sample pictures, the service runs without: %s", error)


async def _aside(call: Callable[[], R]) -> R:
    """Runs a blocking call in a thread that a shutdown need not wait for: npm may try for minutes without a network."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_it(value)

    def work() -> None:
        try:
            outcome: tuple[Callable[[Any], None], Any] = (future.set_result, call())
        except Exception as error:  # noqa: BLE001 (handed to whoever awaits)
            outcome = (future.set_exception, error)
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:
            log.debug("the sample arrived after the service had stopped")

    threading.Thread(target=work, name="fetch-sample", daemon=True).start()
    return await future
