"""`lookalike import SOURCE`."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from service.cli.options import INTERRUPTED, CollectionOption, DataDir, Json, a_path, run_async, settings_for
from service.cli.terminal import Meter, bad_rows, err, out, print_json
from service.text import readable

if TYPE_CHECKING:
    import asyncio

    from service.cli.client import Service
    from service.imports.sources.source import Pictures
    from service.imports.tally import Tally
    from service.imports.targets.target import Target
    from service.settings import Settings


def _prefix(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_@-][A-Za-z0-9._:@-]{0,62}", name.rstrip(":")):
        raise typer.BadParameter("a prefix is 1 to 63 characters of A-Z a-z 0-9 . _ : @ -, and starts with none of . :")
    return None if name is None else name.rstrip(":")


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            parser=a_path,
            help="A folder, .zip, .tar.gz, .csv, .jsonl, .parquet or .xml of pictures; .npy or .parquet of vectors.",
        ),
    ],
    collection: CollectionOption = "default",
    ids: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For .npy: a .txt or .jsonl with an id per row. [the file of the same name]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For vectors that another model made: its name. [the collection's model]"),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(metavar="NAME", help="Put NAME: before every id.", callback=_prefix)
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace pictures of the same names that another folder brought.")
    ] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="The collection becomes what the file says: what it lacks is removed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    max_remove_share: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="A sync that would remove more is refused.")
    ] = 0.5,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Import a folder, an archive or a table of pictures; again, and only what is new or changed is embedded.

    Ids are paths below the folder without extension, / as :. A table has the columns id and image (a path beside it),
    the others become metadata. Exit code 1 when a picture was bad; the rest is imported. Or import ready vectors.

    Example: lookalike import ~/photos --collection holidays
    """
    settings = settings_for(data_dir=data_dir)
    if sync or dry_run:
        if source.is_dir():
            raise typer.BadParameter("--sync and --dry-run take a file: a table, an archive, or vectors")
        if prefix is not None or replace or ids is not None or model is not None:
            raise typer.BadParameter("--sync and --dry-run go with --max-remove-share alone")
        from service.cli.import_job import import_job

        share = max_remove_share
        import_job(settings, source, collection, sync=sync, dry_run=dry_run, max_remove_share=share, json=json)
        return
    from service.imports.sources.opening import holds_vectors, open_pictures

    if holds_vectors(source):
        if prefix is not None or replace:
            raise typer.BadParameter("--prefix and --replace are for folders of pictures")
        from service.cli.import_vectors import import_vectors

        import_vectors(settings, source, collection, ids, model, json)
        return
    if ids is not None or model is not None:
        raise typer.BadParameter("--ids and --model are for files of vectors")

    console = err()
    with console.status("looking for pictures"):
        plan = open_pictures(source, prefix=prefix or "", leave_out=(settings.data_dir,))
    meter = Meter(console, quiet=json)
    with contextlib.closing(plan), meter.running():
        tally = run_async(_run(settings, plan, collection, meter, replace=replace))
    if json:
        found = {"collection": collection, "ignored": plan.ignored, "skipped": plan.skipped}
        print_json({"source": readable(source), **found, **tally.as_json()})
    else:
        _show(tally, plan, collection)
    if tally.interrupted:
        raise typer.Exit(INTERRUPTED)
    if tally.bad:
        raise typer.Exit(1)


async def _run(settings: Settings, plan: Pictures, collection: str, meter: Meter, *, replace: bool) -> Tally:
    import asyncio

    from service.cli.client import open_service
    from service.fetching.fetcher import Fetcher
    from service.fetching.urls import FetchHosts
    from service.imports import engine, roots

    async with open_service(settings) as service:
        target, gave_way = await _target(service, collection, found=plan.count > 0)
        if gave_way:
            err().print("the sample pictures make room for yours")
        if not replace:
            await roots.check(plan.sources(), target)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        # The first Ctrl-C lets pictures under way finish; the second one does not wait.
        loop.add_signal_handler(signal.SIGINT, _stop_once, loop, stop)
        hosts = FetchHosts.of(settings.fetch_hosts)
        fetcher = service.runtime.fetcher if service.runtime else Fetcher(enabled=settings.fetch_urls, hosts=hosts)
        try:
            return await engine.run(
                plan.sources(), target, total=plan.count, bad=plan.bad, on_progress=meter, stop=stop, fetcher=fetcher
            )
        finally:
            await fetcher.close()
            loop.remove_signal_handler(signal.SIGINT)


async def _target(service: Service, collection: str, *, found: bool) -> tuple[Target, bool]:
    """Where the pictures go, and whether the sample gave way to them; the collection is made where there is none.

    found: whether there are any. Raises RequestFailed, ModelMismatch.
    """
    await service.api.call("PUT", f"/v1/collections/{quote(collection, safe='')}")
    runtime = service.runtime
    if runtime is None:
        from service.cli.server_target import ServerTarget

        gave_way = False
        if found:
            answer = await service.api.call("POST", "/admin/give-way", json={"collection": collection})
            gave_way = bool(answer["gave_way"])
        return await ServerTarget.open(service.api, collection), gave_way

    from service.imports.targets.catalogue_target import CatalogueTarget
    from service.sample.presence import give_way

    gave_way = False
    if found:
        gave_way = await runtime.write(give_way, runtime.catalogue, collection, runtime.model.record)
    limit = runtime.settings.max_upload_bytes
    target = await CatalogueTarget.open(
        runtime.collection(collection), runtime.pipeline, runtime.threads, max_bytes=limit
    )
    return target, gave_way


def _stop_once(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    stop.set()
    loop.remove_signal_handler(signal.SIGINT)


def _show(tally: Tally, plan: Pictures, collection: str) -> None:
    counts = [
        f"{tally.created:,} new",
        f"{tally.replaced:,} changed" if tally.replaced else "",
        f"{tally.unchanged:,} unchanged" if tally.unchanged else "",
        f"[red]{len(tally.bad):,} bad[/]" if tally.bad else "",
        f"{plan.ignored:,} other files" if plan.ignored else "",
        f"{plan.skipped:,} hidden or system files skipped" if plan.skipped else "",
    ]
    if tally.total == 0:
        err().print("there is no picture in it")
    rate = f", {tally.images_per_second:.1f} images/s" if tally.done else ""
    shown = ", ".join(filter(None, counts))
    out().print(f"[bold]{collection}[/]  {shown}  [dim]{tally.seconds:.1f} s{rate}[/]")
    bad_rows((row.path, row.reason) for row in tally.bad)
    if tally.interrupted:
        left = tally.total - tally.handled
        err().print(f"stopped with {left:,} to go; what is done is kept, run the command again to continue")
