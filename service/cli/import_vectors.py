"""`lookalike import FILE` of ready vectors: into the directory, or through the server that owns it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.cli.terminal import Gauge, bad_rows, err, out, print_json
from service.cli.upkeep import whole
from service.owner import path_text

if TYPE_CHECKING:
    from service.embedding.loaded import Model
    from service.settings import Settings

WORDS = {"created": "new", "replaced": "changed", "unchanged": "unchanged"}


def import_vectors(
    settings: Settings, source: Path, collection: str, ids: Path | None, model: str | None, json: bool
) -> None:
    """Imports a file of vectors and shows what came of it; exit code 1 when a row was bad."""
    from service.embedding.loaded import built_model
    from service.imports import vector_import

    file, named = source.absolute(), None if ids is None else ids.absolute()

    def default() -> Model:
        return built_model(settings)

    with Gauge(err(), "importing", quiet=json) as gauge:
        done = whole(
            settings,
            lambda catalogue: vector_import.import_vectors(
                catalogue,
                file,
                collection,
                ids=named,
                default=default,
                foreign=model,
                progress=gauge,
            ),
            "/admin/vectors",
            {
                "file": path_text(file),
                "collection": collection,
                "ids": None if named is None else path_text(named),
                "foreign": model,
            },
            create=True,
        )
    if json:
        print_json(done)
        _end(done["failed"])
    counts = [f"{done[kind]:,} {word}" for kind, word in WORDS.items() if done[kind] or kind == "created"]
    if done["failed"]:
        counts.append(f"[red]{done['failed']:,} bad[/]")
    speed = done["total"] / done["seconds"] if done["seconds"] else 0
    out().print(f"[bold]{collection}[/]  {', '.join(counts)}  [dim]{done['seconds']:.1f} s, {speed:,.0f} vectors/s[/]")
    bad_rows((row["path"], row["reason"]) for row in done["errors"])
    if more := done["failed"] - len(done["errors"]):
        err().print(f"and {more:,} more")
    _end(done["failed"])


def _end(failed: int) -> None:
    raise typer.Exit(1 if failed else 0)
