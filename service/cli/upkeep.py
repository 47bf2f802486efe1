"""`lookalike verify`, `lookalike snapshot create|restore`: on the directory, or through the server that owns it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import Command, DataDir, Group, Json, a_path, must_exist, run_async, settings_for
from service.cli.terminal import Gauge, err, out, print_json
from service.owner import path_text
from service.text import one_line, readable

if TYPE_CHECKING:
    from index.types import Catalogue, Unclaimed
    from service.settings import Settings

app = typer.Typer(help="Back a catalogue up into one file, and bring it back.", no_args_is_help=True, cls=Group)

File = Annotated[Path, typer.Argument(metavar="FILE", parser=a_path, help="The snapshot's file.")]


def whole(
    settings: Settings,
    here: Callable[[Catalogue], dict[str, Any]],
    path: str,
    body: dict[str, Any],
    *,
    create: bool = False,
    indexes: bool = False,
    unclaimed: Unclaimed = "refuse",
) -> dict[str, Any]:
    """Work on a whole catalogue: `here` on the opened directory, or a POST to the server that owns it.

    create: an empty catalogue is made where there is none; indexes, unclaimed: as of `open_catalogue`. Raises OSError,
    StoreError, OwnerError, RequestFailed.
    """
    from index.errors import DirectoryLocked
    from index.open import open_catalogue
    from service.cli.client import ask_owner

    if not create:
        must_exist(settings)
    try:
        catalogue = open_catalogue(
            settings.data_dir, keep_originals=settings.keep_originals, indexes=indexes, unclaimed=unclaimed
        )
    except DirectoryLocked as locked:
        return dict(run_async(ask_owner(settings, locked, path, body)))
    try:
        return here(catalogue)
    finally:
        catalogue.close()


def verify(data_dir: DataDir = None, json: Json = False) -> None:
    """Read every stored byte and compare it with its checksum. Exit code 1 when something is wrong.

    Example: lookalike verify
    """
    settings = settings_for(data_dir=data_dir)

    from rich.markup import escape

    from service import upkeep

    with err().status("reading everything"):
        report = whole(settings, upkeep.verify, "/admin/verify", {}, unclaimed="report")
    if json:
        print_json(report)
    else:
        for finding in report["findings"]:
            out().print(f"[red]bad[/]  {escape(one_line(finding['subject']))}  [dim]{escape(finding['problem'])}[/]")
        if not report["findings"]:
            out().print(f"[green]ok[/]  {report['items']:,} items  [dim]{report['seconds']:.1f} s[/]")
    if report["findings"]:
        raise typer.Exit(1)


@app.command(cls=Command)
def create(
    file: File,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write the catalogue as of one moment into a file, while a server may go on working.

    Example: lookalike snapshot create backup.tar
    """
    settings = settings_for(data_dir=data_dir)

    from service import upkeep

    target = file.absolute()
    with Gauge(err(), "writing", quiet=json) as gauge:
        made = whole(
            settings,
            lambda catalogue: upkeep.snapshot(catalogue, target, force=force, progress=gauge),
            "/admin/snapshot",
            {"file": path_text(target), "force": force},
        )
    _show(made, "saved", readable(file), json)


@app.command(cls=Command)
def restore(
    file: File,
    force: Annotated[bool, typer.Option("--force", help="Replace the catalogue that is there.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Check a snapshot and bring its catalogue back; no server may be running on the directory.

    Example: lookalike snapshot restore backup.tar --data-dir ./data
    """
    settings = settings_for(data_dir=data_dir)

    from dataclasses import asdict

    from index import open as engine

    with Gauge(err(), "restoring", quiet=json) as gauge:
        done = engine.restore(file, settings.data_dir, force=force, progress=gauge)
    _show({"file": readable(file), **asdict(done)}, "restored", readable(settings.data_dir), json)


def _show(made: dict[str, Any], verb: str, where: str, json: bool) -> None:
    if json:
        print_json(made)
        return
    from rich.markup import escape

    missing = f", {made['missing']:,} originals were missing" if made["missing"] else ""
    out().print(f"[green]{verb}[/]  {escape(where)}  {made['items']:,} items, {made['originals']:,} originals{missing}")
