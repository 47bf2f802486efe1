"""`lookalike import FILE --sync` and `--dry-run`: the file becomes a job of the service, as it does over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
import typer

from service.cli.terminal import Gauge, bad_rows, err, out, print_json
from service.text import readable

if TYPE_CHECKING:
    from service.settings import Settings

_POLL = 0.25
_UNENDED = ("queued", "running")


def import_job(
    settings: Settings, file: Path, collection: str, *, sync: bool, dry_run: bool, max_remove_share: float, json: bool
) -> None:
    """Sends the file, follows the job to its end, and shows what came of it. Exit code 1 where a row was bad.

    Raises RequestFailed, ServerLost, OSError.
    """
    from service.cli.options import run_async

    fields = {"mode": "sync" if sync else "add", "dry_run": str(dry_run).lower(), "max_remove_share": max_remove_share}
    with Gauge(err(), "importing", quiet=json) as gauge:
        job, errors = run_async(_run(settings, file, collection, fields, gauge))
    if json:
        print_json({"source": readable(file), "collection": collection, "dry_run": dry_run, **job, "errors": errors})
    else:
        _show(job, errors, collection, dry_run)
    if job["state"] != "done" or job["failed"]:
        raise typer.Exit(1)


async def _run(
    settings: Settings, file: Path, collection: str, fields: dict[str, Any], gauge: Gauge
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from service.cli.client import open_service

    base = f"/v1/collections/{quote(collection, safe='')}"
    async with open_service(settings) as service:
        await service.api.call("PUT", base)
        with file.open("rb") as opened:
            sent = {"file": (file.name, opened, "application/octet-stream")}
            job = await service.api.call("POST", f"{base}/imports", data=fields, files=sent)
        path = f"{base}/imports/{job['id']}"
        while job["state"] in _UNENDED:
            await asyncio.sleep(_POLL)
            job = await service.api.call("GET", path)
            if job["total"]:
                gauge(job["done"] + job["unchanged"] + job["failed"], job["total"])
        lines = await service.api.http.get(f"{path}/errors")
        return job, [orjson.loads(line) for line in lines.text.splitlines() if line]


def _show(job: dict[str, Any], errors: list[dict[str, Any]], collection: str, dry_run: bool) -> None:
    from rich.markup import escape

    if job["state"] != "done":
        why = (job.get("error") or {}).get("detail", "it was cancelled")
        err().print(f"[red]{job['state']}[/]  {escape(why)}")
    counts = ", ".join(
        f"{job[name]:,} {shown}"
        for name, shown in (("done", "written"), ("unchanged", "unchanged"), ("removed", "removed"), ("failed", "bad"))
        if job[name]
    )
    would = "would be: " if dry_run else ""
    out().print(f"[bold]{collection}[/]  {would}{counts or 'nothing to do'}")
    bad_rows((str(row.get("path") or row.get("id") or f"row {row.get('row')}"), row["reason"]) for row in errors)
