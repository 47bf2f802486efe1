"""`lookalike calibrate`."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from service.cli.options import CollectionOption, DataDir, Json, a_path, must_exist, run_async, settings_for
from service.cli.terminal import bad_rows, err, out, print_json

if TYPE_CHECKING:
    from service.settings import Settings

_POLL = 0.5


def calibrate(
    negatives: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|ZIP", parser=a_path, help="Pictures that have no match; without: the catalogue alone."
        ),
    ] = None,
    false_accept_rate: Annotated[
        float, typer.Option(metavar="SHARE", min=0.0001, max=0.5, help="Of such pictures, may be called a match.")
    ] = 0.01,
    label: Annotated[
        str | None, typer.Option(metavar="KEY", help="A metadata key: also tells what is kept of each of its values.")
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to the default threshold, and measure nothing.")
    ] = False,
    collection: CollectionOption = "default",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Measure which score is a match, and search by it from then on.

    From pictures that have no match, the threshold that at most the asked share of such pictures will reach; 99 of them
    at least for 0.01. A threshold set by hand goes before a calibrated one.

    Example: lookalike calibrate --negatives street-photos/ --label brand
    """
    settings = settings_for(data_dir=data_dir)
    must_exist(settings)
    if reset and negatives is not None:
        raise typer.BadParameter("--reset measures nothing: leave --negatives out")
    fields = {"false_accept_rate": str(false_accept_rate), **({"label": label} if label else {})}
    with _packed(negatives) as archive, err().status("calibrating"):
        done = run_async(_asked(settings, collection, archive, fields, reset))
    if json:
        print_json({"reset": collection} if done is None else done)
    elif done is None:
        out().print(f"[bold]{collection}[/]  back to the default threshold")
    else:
        _show(collection, done)


@contextmanager
def _packed(path: Path | None) -> Iterator[Path | None]:
    """A folder as an archive of its pictures, as HTTP takes it. Raises SourceError."""
    from service.imports.sources.folder import plan
    from service.imports.sources.source import SourceError, Unreadable

    if path is None or path.is_file():
        yield path
        return
    planned = plan(path)
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        archive = Path(folder) / "negatives.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            for number, source in enumerate(planned.sources()):
                try:
                    packed.writestr(f"{number:06d}/{Path(source.name).name}", source.read(2**30))
                except Unreadable as error:
                    bad_rows([(source.name, str(error))])
        bad_rows((each.path, each.reason) for each in planned.bad)
        if not planned.count:
            raise SourceError(f"{path} has no picture in it")
        yield archive


async def _asked(
    settings: Settings, collection: str, archive: Path | None, fields: dict[str, str], reset: bool
) -> dict[str, Any] | None:
    import asyncio

    from service.cli.client import open_service

    base = f"/v1/collections/{quote(collection, safe='')}"
    async with open_service(settings) as service:
        if reset:
            await service.api.call("DELETE", f"{base}/calibration")
            return None
        files: dict[str, Any] = {name: (None, value) for name, value in fields.items()}
        with ExitStack() as opened:
            if archive is not None:
                files["negatives"] = (archive.name, opened.enter_context(archive.open("rb")))
            done = await service.api.call("POST", f"{base}/calibration", files=files)
        while "score_threshold" not in done:  # a job
            job = done["id"]
            await asyncio.sleep(_POLL)
            done = await service.api.call("GET", f"{base}/jobs/{job}/result")
        return dict(done)


def _show(collection: str, done: dict[str, Any]) -> None:
    from rich.markup import escape

    console = out()
    console.print(f"[bold]{collection}[/]  a match scores at least [bold]{done['score_threshold']:.4f}[/]")
    if (false := done["false_accepts"]) is not None:
        console.print(
            f"false accepts  {_share(false)} of pictures without a match, asked {done['false_accept_rate']:g}"
        )
    if (kept := done["kept"]) is not None:
        console.print(f"kept           {_share(kept)} of the catalogue's own items, each without itself")
    if (worst := done["worst_class"]) is not None:
        console.print(f"worst          {escape(worst['label'])}: {_share(worst)}")
    for each in done["in_catalogue"]:
        err().print(f"left out  {escape(each['name'])}  [dim]is {each['id']} ({each['score']:.3f})[/]")
    bad_rows((each["name"], each["reason"]) for each in done["failed"])
    for line in done["warnings"]:
        err().print(f"warning: {line}", style="yellow", markup=False)


def _share(found: dict[str, Any]) -> str:
    return f"{found['value']:.1%} ({found['hits']:,} of {found['count']:,}; {found['low']:.1%} to {found['high']:.1%})"
