"""`lookalike neighbors`: every item's nearest others into a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from service.analysis.limits import DEFAULT_NEIGHBORS, MAX_NEIGHBORS
from service.cli.options import CollectionOption, DataDir, Json, a_path, must_exist, run_async, settings_for
from service.cli.terminal import err, out, print_json
from service.text import readable

if TYPE_CHECKING:
    from service.cli.client import Api
    from service.settings import Settings

_POLL = 0.5


def neighbors(
    file: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", parser=a_path, help="A .jsonl, .csv or .parquet; replaced."),
    ],
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="K", min=1, max=MAX_NEIGHBORS, help="So many of each item.")
    ] = DEFAULT_NEIGHBORS,
    collection: CollectionOption = "default",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write every item's nearest others with their scores into a file, for a recommender.

    A second run searches only for what has changed. A .jsonl has one line an item, the others one row a pair.

    Example: lookalike neighbors --limit 20 --out neighbors.jsonl
    """
    from rich.markup import escape

    from service.exports.export import Output
    from service.exports.pairs import pairs_format

    settings = settings_for(data_dir=data_dir)
    format = pairs_format(file)
    must_exist(settings)
    with err().status("looking for neighbors"), Output(file) as output:
        count = run_async(_run(settings, collection, limit, format, output))
    if json:
        print_json({"file": readable(file), "collection": collection, "limit": limit, "items": count})
    else:
        out().print(f"[green]written[/]  {escape(readable(file))}  {count:,} items")


async def _run(settings: Settings, collection: str, limit: int, format: str, output: Any) -> int:
    from service.cli.client import open_service
    from service.exports.pairs import Pairs

    count = 0
    async with open_service(settings) as service:
        with Pairs(format) as pairs:
            async for items in _pages(service.api, f"/v1/collections/{quote(collection, safe='')}", limit):
                count += len(items)
                output.write(pairs.add(items))
        output.write(pairs.rest)
    return count


async def _pages(api: Api, base: str, limit: int) -> AsyncIterator[list[dict[str, Any]]]:
    import asyncio

    path = f"{base}/neighbors"
    page = await api.call("GET", path, params={"limit": limit})
    if "items" not in page:  # a job
        job = page["id"]
        while "items" not in page:
            await asyncio.sleep(_POLL)
            page = await api.call("GET", f"{base}/jobs/{job}/result")
    while True:
        yield page["items"]
        if page["next_cursor"] is None:
            return
        page = await api.call("GET", path, params={"limit": limit, "cursor": page["next_cursor"]})
