"""`lookalike search IMAGE`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from service.cli.options import CollectionOption, DataDir, Json, a_path, must_exist, run_async, settings_for
from service.cli.terminal import bar, inline, out, print_json, print_table, table
from service.search.limits import DEFAULT_RESULTS, MAX_RESULTS

if TYPE_CHECKING:
    from service.settings import Settings

SOURCES = {
    "request": "as asked",
    "collection": "set for the collection",
    "calibrated": "calibrated",
    "model_default": "the model's default",
}


def search(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", parser=a_path, help="A picture's file; - reads it from stdin.")
    ],
    collection: CollectionOption = "default",
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, max=MAX_RESULTS, help="At most so many.")
    ] = DEFAULT_RESULTS,
    offset: Annotated[int, typer.Option(metavar="N", min=0, help="Leave out the first ones.")] = 0,
    score_threshold: Annotated[
        float | None, typer.Option(metavar="COSINE", help="Least score; default: the collection's.")
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='For example \'{"must":[{"key":"folder","match":"shoes"}]}\'.'),
    ] = None,
    group_by: Annotated[str | None, typer.Option(metavar="KEY", help="Only the best per value of this key.")] = None,
    crop: Annotated[
        str | None, typer.Option(metavar="L,T,R,B", help="Search with a part of the picture, each 0 to 1.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Find the pictures most similar to one.

    Example: lookalike search shoe.jpg --limit 5
    """
    settings = settings_for(data_dir=data_dir)
    data = sys.stdin.buffer.read() if str(image) == "-" else image.read_bytes()
    if not data:
        raise typer.BadParameter(f"{'stdin' if str(image) == '-' else image} is empty", param_hint="IMAGE")
    must_exist(settings)
    fields = {
        "limit": limit,
        "offset": offset,
        "score_threshold": score_threshold,
        "filter": filter,
        "group_by": group_by,
        "crop": crop,
    }
    given = {name: str(value) for name, value in fields.items() if value is not None}
    answer = run_async(_ask(settings, collection, data, given))
    if json:
        print_json(answer)
    else:
        _show(answer)


async def _ask(settings: Settings, collection: str, data: bytes, fields: dict[str, str]) -> Any:
    from service.cli.client import open_service

    async with open_service(settings) as service:
        path = f"/v1/collections/{quote(collection, safe='')}/search"
        return await service.api.call("POST", path, files={"image": ("image", data)}, data=fields)


def _show(answer: dict[str, Any]) -> None:
    from rich.markup import escape

    console = out()
    least = f"{answer['score_threshold']:.2f}, {SOURCES.get(answer['threshold_source'], answer['threshold_source'])}"
    if answer["no_match"]:
        best = answer["best_score"]
        near = "the collection is empty" if best is None else f"best score {best:.3f}, needed {least}"
        words, _, reason = answer["message"].partition(": ")
        console.print(f"[bold]{words}[/]  [dim]{escape(reason or near)}[/]")
        return
    found = answer["results"]
    if not found and answer["message"] is not None:
        console.print(escape(answer["message"]))
        return
    grouped = any(result.get("group") is not None for result in found)
    shown = table("#", "score", "", "id", *(["group"] if grouped else []), "metadata", right=("#", "score"))
    for rank, result in enumerate(found, 1):
        score = result["score"]
        group = [escape(str(result.get("group")))] if grouped else []
        shown.add_row(
            f"[dim]{rank}[/]",
            f"{score:.3f}",
            f"[cyan]{bar(score)}[/]",
            result["id"],
            *group,
            inline(result["metadata"]),
        )
    print_table(console, shown)
    took = answer["took_ms"]["total"]
    console.print(f"[dim]of {answer['filtered_count']:,} in {took:.0f} ms; threshold {least}[/]")
