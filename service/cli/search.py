"""`lookalike search IMAGE`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from service.cli.options import CollectionOption, DataDir, Json, a_path, must_exist, run_async, settings_for
from service.cli.sheets import Open, SheetFile, show, thumbnailing, thumbnails
from service.cli.terminal import bar, inline, out, print_json, print_table, table
from service.search.limits import DEFAULT_RESULTS, MAX_RESULTS
from service.text import readable

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
    sheet: SheetFile = None,
    open: Open = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Find the pictures most similar to one.

    With --sheet they are drawn too, and shown right here by a terminal that can (kitty, Ghostty, iTerm2, WezTerm).

    Example: lookalike search shoe.jpg --limit 5 --sheet found.png
    """
    if open and sheet is None:
        raise typer.BadParameter("--open shows a sheet: name its file with --sheet")
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
    name = "stdin" if str(image) == "-" else readable(image.name)
    answer, drawn = run_async(_ask(settings, collection, data, given, name if sheet is not None else None))
    if json:
        print_json(answer)
    else:
        _show(answer)
    if sheet is not None:
        show(sheet, drawn, opened=open, quiet=json)


async def _ask(
    settings: Settings, collection: str, data: bytes, fields: dict[str, str], drawn: str | None
) -> tuple[dict[str, Any], bytes]:
    """The answer, and a contact sheet of it where `drawn` names the picture."""
    from service.cli.client import open_service

    async with open_service(settings) as service:
        path = f"/v1/collections/{quote(collection, safe='')}/search"
        answer = dict(await service.api.call("POST", path, files={"image": ("image", data)}, data=fields))
        if drawn is None:
            return answer, b""
        pictures = await thumbnails(service.api, collection, (each["id"] for each in answer["results"]))
        async with thumbnailing(service, settings) as thumbnail:
            return answer, sheet_of(answer, collection, drawn, await thumbnail(data), pictures)


def sheet_of(
    answer: Mapping[str, Any], collection: str, name: str, picture: bytes | None, pictures: Mapping[str, bytes]
) -> bytes:
    """A query and what was found as a PNG. picture, pictures: thumbnails, of the query and by id."""
    from service.drawing.sheet import Cell, Row, sheet

    best, least = answer["best_score"], answer["score_threshold"]
    if answer["no_match"]:
        near = "the collection is empty" if best is None else f"the nearest scores {best:.3f}"
        note = f"{collection}: no similar images; {near}, a match at least {least:.2f}"
    else:
        note = f"{collection}: of {answer['filtered_count']:,} items; a match scores at least {least:.2f}"
    cells = [
        Cell(
            pictures.get(each["id"]),
            each["id"],
            f"{each['score']:.3f}",
            "plain" if each["score"] >= least else "faint",
        )
        for each in answer["results"]
    ]
    return sheet([Row(Cell(picture, name, "", "key"), cells)], title=f"Similar to {name}", note=note, columns=5)


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
