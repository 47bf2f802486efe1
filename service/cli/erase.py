"""`lookalike erase`: deletes, and sees to it that no file of the data directory holds it any more."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli.options import DataDir, Json, settings_for
from service.cli.terminal import err, out, print_json
from service.cli.upkeep import whole


def erase(
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", metavar="NAME", help="Delete this collection first.")
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="Of the collection, delete only this item; repeatable."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="ID", help="Revoke this key, delete the collection that it opens alone.")
    ] = None,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Remove the files of snapshots made so far; they may hold it too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a collection or snapshots go.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Erase what was deleted so far from every file of the data directory, for good.

    With options, delete an item, a collection, or what belongs to a key first. Writes wait while the database is
    written anew; searches go on. Exit code 1 where something is left.

    Example: lookalike erase --collection shoes --id shoe-17
    """
    settings = settings_for(data_dir=data_dir)

    from rich.markup import escape

    from service import erasing
    from service.access.audit import Audit

    wish = erasing.Wish(collection, tuple(item or ()), key, snapshots)
    if not yes and ((collection and not item) or key or snapshots):
        raise typer.BadParameter("a whole collection, what belongs to a key, and snapshots go only with --yes")

    def here(catalogue: Any) -> dict[str, Any]:
        going = erasing.revoke(catalogue, wish)
        if going.collection is not None and not going.ids:
            erasing.remove_collection(catalogue, settings.data_dir, going.collection)
        return erasing.erase(catalogue, Audit(settings.data_dir), going)

    body = {"collection": collection, "ids": item or [], "key": key, "snapshots": snapshots}
    with err().status("erasing"):
        done = whole(settings, here, "/admin/erase", body, indexes=True)
    if json:
        print_json(done)
    else:
        removed = f", {done['snapshots_removed']:,} snapshots removed" if done["snapshots_removed"] else ""
        out().print(
            f"[green]erased[/]  {done['deleted']:,} items deleted now, {done['bytes'] / 1e6:,.1f} MB given back"
            f"{removed}  [dim]{done['seconds']:.1f} s[/]"
        )
        for line in done["left"]:
            err().print(f"[red]left[/]  {escape(line)}")
        for file in done["snapshots"]:
            err().print(f"[yellow]may hold it[/]  {escape(file)}  [dim]--snapshots removes it[/]")
    if done["left"]:
        raise typer.Exit(1)
