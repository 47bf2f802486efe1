"""`lookalike import SOURCE`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.common import CollectionOption, DataDir, Json, run_async, settings_for
from service.terminal import Meter, err, out, print_json

if TYPE_CHECKING:
    import asyncio

    from service.bulk import Tally
    from service.folder import Plan
    from service.settings import Settings

INTERRUPTED = 130


def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder of pictures, with everything below it.")],
    collection: CollectionOption = "default",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Import a folder; again, and only what is new or changed is embedded.

    Ids are paths below the folder without extension, / as :. Exit code 1 when a file was bad; the rest is imported.

    Example: lookalike import ~/photos --collection holidays
    """
    settings = settings_for(data_dir=data_dir)

    from service import folder

    console = err()
    with console.status("looking for pictures"):
        plan = folder.plan(source)
    meter = Meter(console, quiet=json)
    with meter.running():
        tally = run_async(_run(settings, plan, collection, meter))
    if json:
        print_json({"source": str(source), "collection": collection, "ignored": plan.ignored, **tally.as_json()})
    else:
        _show(tally, plan.ignored, collection)
    if tally.interrupted:
        raise typer.Exit(INTERRUPTED)
    if tally.bad:
        raise typer.Exit(1)


async def _run(settings: Settings, plan: Plan, collection: str, meter: Meter) -> Tally:
    import asyncio

    from service import bulk
    from service.client import open_service
    from service.targets import open_target

    async with open_service(settings) as service:
        target = await open_target(service, collection)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        # The first Ctrl-C lets pictures under way finish; the second one does not wait.
        loop.add_signal_handler(signal.SIGINT, _stop_once, loop, stop)
        try:
            return await bulk.run(plan.sources, target, bad=plan.bad, on_progress=meter, stop=stop)
        finally:
            loop.remove_signal_handler(signal.SIGINT)


def _stop_once(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    stop.set()
    loop.remove_signal_handler(signal.SIGINT)


def _show(tally: Tally, ignored: int, collection: str) -> None:
    from rich.markup import escape

    counts = [
        f"{tally.created:,} new",
        f"{tally.replaced:,} changed" if tally.replaced else "",
        f"{tally.unchanged:,} unchanged" if tally.unchanged else "",
        f"[red]{len(tally.bad):,} bad[/]" if tally.bad else "",
        f"{ignored:,} other files" if ignored else "",
    ]
    rate = f", {tally.images_per_second:.1f} images/s" if tally.done else ""
    told = ", ".join(filter(None, counts))
    out().print(f"[bold]{collection}[/]  {told}  [dim]{tally.seconds:.1f} s{rate}[/]")
    for row in tally.bad:
        err().print(f"[red]bad[/]  {escape(row.path)}  [dim]{escape(row.reason)}[/]")
    if tally.interrupted:
        left = tally.total - tally.handled
        err().print(f"stopped with {left:,} to go; what is done is kept, run the command again to continue")
