"""`lookalike adopt`: items again of originals whose items were lost with the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.cli.options import CollectionOption, DataDir, Json, run_async, settings_for
from service.cli.terminal import Meter, err, out, print_json

if TYPE_CHECKING:
    from service.imports.tally import Tally
    from service.settings import Settings


def adopt(collection: CollectionOption = "default", data_dir: DataDir = None, json: Json = False) -> None:
    """Make items of kept originals that the catalogue does not know, after its database was lost or rolled back.

    Each gets its sha256 as id and no metadata. What is no picture stays where it is. No server may be running on the
    directory. Where there is a snapshot, restore that first: it has the ids and the metadata.

    Example: lookalike adopt --collection recovered
    """
    settings = settings_for(data_dir=data_dir)

    from rich.markup import escape

    meter = Meter(err(), quiet=json)
    with meter.running():
        tally = run_async(_run(settings, collection, meter))
    if json:
        print_json({"collection": collection, **tally.as_json()})
        return
    left = f", {len(tally.bad):,} left alone" if tally.bad else ""
    out().print(f"[bold]{collection}[/]  {tally.created:,} adopted{left}  [dim]{tally.seconds:.1f} s[/]")
    for row in tally.bad:
        err().print(f"left alone  {escape(row.path)}  [dim]{escape(row.reason)}[/]")


async def _run(settings: Settings, name: str, meter: Meter) -> Tally:
    from service.imports import engine
    from service.imports.sources.originals import originals
    from service.imports.targets.catalogue_target import CatalogueTarget
    from service.runtime import Runtime

    runtime = await Runtime.open(settings, unclaimed="adopt")
    try:
        collection, _ = await runtime.write(runtime.create_collection, name)
        hashes = await runtime.read(runtime.catalogue.unclaimed)
        target = await CatalogueTarget.open(
            collection, runtime.pipeline, runtime.threads, max_bytes=settings.max_upload_bytes
        )
        sources = originals(runtime.catalogue, hashes)
        tally = await engine.run(sources, target, total=len(hashes), on_progress=meter)
        await runtime.write(runtime.catalogue.leave, [row.path for row in tally.bad])
        return tally
    finally:
        await runtime.close()
