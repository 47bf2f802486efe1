"""`lookalike export`: from the directory, or from the server that owns it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from service.cli.options import CollectionOption, DataDir, Json, a_path, must_exist, run_async, settings_for
from service.cli.terminal import err, out, print_json
from service.text import readable

if TYPE_CHECKING:
    from service.exports.export import Format, Output
    from service.settings import Settings

_NAMED = 10  # items left out that are named


def export(
    file: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            parser=a_path,
            help="A .csv, .jsonl, .parquet or .zip; replaced when it is there.",
        ),
    ],
    collection: CollectionOption = "default",
    filter: Annotated[
        str | None, typer.Option(metavar="JSON", help='Only these: \'{"must":[{"key":"brand","match":"acme"}]}\'.')
    ] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors/--no-vectors", help="With the vectors, without which only a .zip imports again.")
    ] = True,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write a collection into one file, which imports again to the same items.

    A .zip has the pictures as they were uploaded; the others have vectors, and no picture. The file has its name once
    it is whole. Exit code 1 when a .zip lacks items of which no upload is kept.

    Example: lookalike export --collection shop --out shop.parquet
    """
    settings = settings_for(data_dir=data_dir)

    from rich.markup import escape

    from service.exports.export import Output, counted, format_of

    format = format_of(file)
    must_exist(settings)
    began = time.monotonic()
    with err().status("writing"), Output(file) as output:
        _write(settings, collection, format, output, vectors=vectors, filter=filter)
    done = counted(file, format)
    if json:
        seconds = round(time.monotonic() - began, 3)
        found = {"items": done.items, "left_out": done.left_out, "bytes": file.stat().st_size, "seconds": seconds}
        print_json({"file": readable(file), "collection": collection, **found})
    else:
        out().print(f"[green]written[/]  {escape(readable(file))}  {done.items:,} items")
    if done.left_out:
        more = ", …" if len(done.left_out) > _NAMED else ""
        err().print(
            f"{len(done.left_out):,} items have no upload kept and are left out "
            f"({', '.join(done.left_out[:_NAMED])}{more}); a .parquet, .csv or .jsonl has their vectors",
            markup=False,
        )
        raise typer.Exit(1)


def _write(
    settings: Settings, collection: str, format: Format, output: Output, *, vectors: bool, filter: str | None
) -> None:
    from index.errors import DirectoryLocked
    from index.filters import parse_filter
    from index.open import open_catalogue
    from service.cli.client import download
    from service.exports.export import pieces
    from service.strict_json import JsonRefused, loads

    try:
        wanted = None if filter is None else parse_filter(loads(filter))
    except JsonRefused as error:
        raise typer.BadParameter(str(error), param_hint="--filter") from None
    try:
        catalogue = open_catalogue(settings.data_dir, keep_originals=settings.keep_originals, indexes=False)
    except DirectoryLocked as locked:
        query = {"format": format, "vectors": str(vectors).lower(), **({"filter": filter} if filter else {})}
        path = f"/v1/collections/{quote(collection, safe='')}/export"
        run_async(download(settings, locked, path, query, output.write))
        return
    try:
        for piece in pieces(catalogue, collection, format, vectors=vectors, filter=wanted):
            output.write(piece)
    finally:
        catalogue.close()
