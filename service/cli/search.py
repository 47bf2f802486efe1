"""`lookalike search IMAGE`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from service.cli.options import CollectionOption, DataDir, Json, a_path, must_exist, run_async, settings_for
from service.cli.sheets import Open, SheetFile, show, thumbnailing, thumbnails
from service.cli.terminal import bar, inline, out, print_json, print_table, table
from service.search.limits import DEFAULT_RESULTS, MAX_PICTURES, MAX_RESULTS
from service.text import readable

if TYPE_CHECKING:
    from service.settings import Settings

NEAREST = 5  # that are drawn where none is near enough
SOURCES = {
    "request": "as asked",
    "collection": "set for the collection",
    "calibrated": "calibrated",
    "model_default": "the model's default",
}


def search(
    image: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            parser=a_path,
            help=f"A picture's file; - reads it from stdin. Up to {MAX_PICTURES} of one thing are one query.",
        ),
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
    """Find the pictures most similar to one, or to several of one thing.

    With --sheet they are drawn too, and shown right here by a terminal that can (kitty, Ghostty, iTerm2, WezTerm).

    Example: lookalike search shoe.jpg --limit 5 --sheet found.png
    """
    if open and sheet is None:
        raise typer.BadParameter("--open shows a sheet: name its file with --sheet")
    settings = settings_for(data_dir=data_dir)
    if len(image) > MAX_PICTURES:
        raise typer.BadParameter(f"{len(image)} pictures, at most {MAX_PICTURES} of one thing", param_hint="IMAGE")
    pictures = [Picture.read(each) for each in image]
    must_exist(settings)
    fields = {
        "limit": limit,
        "offset": offset,
        "score_threshold": score_threshold,
        "filter": filter,
        "group_by": group_by,
        "crop": crop,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    answer, drawn = run_async(_ask(settings, collection, pictures, given, sheet is not None))
    if json:
        print_json(answer)
    else:
        _show(answer)
    if sheet is not None:
        show(sheet, drawn, opened=open, quiet=json)


@dataclass(frozen=True, slots=True)
class Picture:
    """A person's picture. name: as it is shown."""

    name: str
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Picture:
        """`-` is stdin. Raises OSError, and BadParameter for an empty one."""
        stdin = str(path) == "-"
        data = sys.stdin.buffer.read() if stdin else path.read_bytes()
        if not data:
            raise typer.BadParameter(f"{'stdin' if stdin else path} is empty", param_hint="IMAGE")
        return cls("stdin" if stdin else readable(path.name), data)


async def _ask(
    settings: Settings, collection: str, pictures: Sequence[Picture], fields: dict[str, Any], drawn: bool
) -> tuple[dict[str, Any], bytes]:
    """The answer, and a contact sheet of it where it is to be `drawn`."""
    from service.cli.client import open_service

    async with open_service(settings) as service:
        path = f"/v1/collections/{quote(collection, safe='')}"
        if len(pictures) == 1:
            texts = {name: str(value) for name, value in fields.items()}
            files = {"image": ("image", pictures[0].data)}
            answer = dict(await service.api.call("POST", f"{path}/search", files=files, data=texts))
        else:
            answer = dict(await service.api.call("POST", f"{path}/query", json=several(pictures, fields)))
        if not drawn:
            return answer, b""
        shown = answer["results"]
        if answer["no_match"] and answer["best_score"] is not None:  # how near the nearest came, for people to see
            body = several(pictures, {**fields, "limit": NEAREST, "offset": 0, "score_threshold": -1})
            shown = (await service.api.call("POST", f"{path}/query", json=body))["results"]
        found = await thumbnails(service.api, collection, (each["id"] for each in shown))
        async with thumbnailing(service, settings) as thumbnail:
            asked = [(each.name, await thumbnail(each.data)) for each in pictures]
        return answer, sheet_of({**answer, "results": shown}, collection, asked, found)


def several(pictures: Sequence[Picture], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a query by several pictures of one thing. Raises BadParameter for a filter that is no JSON."""
    import base64

    from service.strict_json import JsonRefused, loads

    rest = dict(fields)
    crop = {"crop": rest.pop("crop")} if "crop" in rest else {}
    if "filter" in rest:
        try:
            rest["filter"] = loads(rest["filter"])
        except JsonRefused as error:
            raise typer.BadParameter(str(error), param_hint="--filter") from None
    examples = [{"image_base64": base64.b64encode(each.data).decode(), **crop} for each in pictures]
    return {"positive": examples, **rest}


def sheet_of(
    answer: Mapping[str, Any],
    collection: str,
    asked: Sequence[tuple[str, bytes | None]],
    pictures: Mapping[str, bytes],
) -> bytes:
    """A query and what was found as a PNG, in grey what is below the threshold.

    asked: name and thumbnail of each picture; pictures: thumbnails by id.
    """
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
    (name, picture), *more = asked
    rows = [Row(Cell(picture, name, "", "key"), cells)]
    if more:  # all of them stand above what they found together
        rows = [Row(None, [Cell(each, text, "", "key") for text, each in asked]), Row(None, cells)]
    title = f"Similar to {name}" + (f" and {len(more)} more" if more else "")
    return sheet(rows, title=title, note=note, columns=5 if not more else 6)


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
