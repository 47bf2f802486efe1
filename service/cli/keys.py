"""`lookalike keys create|list|revoke` and `lookalike audit`: who may ask, and who changed what."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from service.cli.options import Command, DataDir, Group, Json, must_exist, settings_for
from service.cli.terminal import err, out, print_json
from service.cli.upkeep import whole

app = typer.Typer(help="Make, list and revoke the keys that open the service.", no_args_is_help=True, cls=Group)


@app.command(cls=Command)
def create(
    scope: Annotated[str, typer.Option(metavar="SCOPE", help="search, write (also changes) or admin (also metrics).")],
    name: Annotated[str, typer.Option(metavar="TEXT", help="What you call it.")] = "",
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", metavar="NAME", help="The only collection it opens.")
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="How long it opens: 90d, 12h, 1y.")] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="How often it may ask: 100/minute, 10/second.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a key and show it, this once. With the first key, everything but health and the page needs one.

    Example: lookalike keys create --scope search --name "shop front" --rate 100/second
    """
    settings = settings_for(data_dir=data_dir)

    from service.access import manage
    from service.access.audit import Audit

    asked = {"scope": scope, "name": name, "collection": collection, "expires": expires, "rate": rate}
    audit = Audit(settings.data_dir)
    made = whole(
        settings,
        lambda catalogue: manage.create(catalogue, audit, **asked),  # type: ignore[arg-type]
        "/admin/keys/create",
        asked,
        create=True,
    )
    if json:
        print_json(made)
        return
    out().print(made["key"], markup=False, highlight=False, soft_wrap=True)
    err().print(f"[dim]{_words(made)}; it is shown this once, as only its hash is kept[/]")


@app.command("list", cls=Command)
def list_(data_dir: DataDir = None, json: Json = False) -> None:
    """Show every key: what it opens, until when, when it was last used.

    Example: lookalike keys list
    """
    settings = settings_for(data_dir=data_dir)

    from service.access import manage

    found = whole(settings, manage.listed, "/admin/keys/list", {})
    if json:
        print_json(found)
        return
    if not found["keys"]:
        out().print("no keys: whoever reaches the service may do everything")
        return

    from rich.markup import escape
    from rich.table import Table

    table = Table("id", "name", "scope", "collection", "rate", "expires", "last used", box=None, header_style="dim")
    for key in found["keys"]:
        table.add_row(
            key["id"],
            escape(key["name"]),
            key["scope"],
            key["collection"] or "all",
            key["rate"] or "",
            _expiry(key["expires_at"]),
            _day(key["used_at"]) if key["used_at"] else "never",
        )
    out().print(table)


@app.command(cls=Command)
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `keys list` shows it.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Take a key away; it opens nothing from now on.

    Example: lookalike keys revoke 3f9a1c20b7de
    """
    settings = settings_for(data_dir=data_dir)

    from service.access import manage
    from service.access.audit import Audit

    audit = Audit(settings.data_dir)
    gone = whole(settings, lambda catalogue: manage.revoke(catalogue, audit, id=key), "/admin/keys/revoke", {"id": key})
    if json:
        print_json(gone)
    else:
        out().print(f"[green]revoked[/]  {_words(gone)}")


def audit(
    last: Annotated[int, typer.Option(metavar="N", min=1, help="So many of the latest lines.")] = 50,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show who changed what and when, newest last.

    Example: lookalike audit --last 20
    """
    settings = settings_for(data_dir=data_dir)
    must_exist(settings)

    from service.access.audit import lines

    latest = list(deque(lines(settings.data_dir), maxlen=last))
    if json:
        print_json({"lines": latest})
        return

    from rich.markup import escape
    from rich.table import Table

    table = Table("when", "who", "what", "about", box=None, header_style="dim")
    for line in latest:
        about = " ".join(f"{name}={value}" for name, value in line.items() if name not in ("at", "who", "action"))
        table.add_row(*(escape(str(line.get(name, ""))) for name in ("at", "who", "action")), escape(about))
    out().print(table if latest else "no changes yet")


def _words(key: dict[str, Any]) -> str:
    from rich.markup import escape

    name = f" “{key['name']}”" if key["name"] else ""
    only = f" of {key['collection']}" if key["collection"] else ""
    return escape(f"{key['id']}{name}, scope {key['scope']}{only}, expires {_expiry(key['expires_at'])}")


def _expiry(at: float | None) -> str:
    if at is None:
        return "never"
    return _day(at) if at > time.time() else f"{_day(at)} (expired)"


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
