"""`lookalike calibrate`."""

from __future__ import annotations

import csv
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from service.cli.options import CollectionOption, DataDir, Json, a_path, must_exist, run_async, settings_for
from service.cli.sheets import Open, png, show
from service.cli.terminal import bad_rows, err, out, print_json

if TYPE_CHECKING:
    from service.settings import Settings

_POLL = 0.5
WHOSE = {"pairs": "the pairs' pictures", "catalogue": "the catalogue's own items, each without itself"}


def calibrate(
    negatives: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER|ZIP]", parser=a_path, help="Pictures that have no match; without: the catalogue alone."
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            parser=a_path,
            help="Pictures that have a match: columns image (a path beside the file) and id or label.",
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0.0001, max=0.5, help="Of pictures without a match, may be called a match."),
    ] = 0.01,
    label: Annotated[
        str | None, typer.Option(metavar="KEY", help="A metadata key: also tells what is kept of each of its values.")
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to the default threshold, and measure nothing.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE.png", parser=png, help="What was measured, drawn; replaced when it is there."
        ),
    ] = None,
    open: Open = False,
    collection: CollectionOption = "default",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Measure which score is a match, and search by it from then on.

    From pictures that have no match, the threshold that at most the asked share of such pictures will reach; 99 of them
    at least for 0.01. A threshold set by hand goes before a calibrated one.

    Example: lookalike calibrate street-photos/ --pairs known.csv --rate 0.01 --plot calibration.png
    """
    if open and plot is None:
        raise typer.BadParameter("--open shows the plot: name its file with --plot")
    settings = settings_for(data_dir=data_dir)
    must_exist(settings)
    if reset and (negatives is not None or pairs is not None or plot is not None):
        raise typer.BadParameter("--reset measures nothing: leave pictures and plot out")
    fields = {"false_accept_rate": str(rate), **({"label": label} if label else {})}
    with _packed(negatives) as archive, _paired(pairs) as known, err().status("calibrating"):
        files = ({} if archive is None else {"negatives": archive}) | known
        done, drawn = run_async(_asked(settings, collection, files, fields, reset, plot is not None))
    if json:
        print_json({"reset": collection} if done is None else done)
    elif done is None:
        out().print(f"[bold]{collection}[/]  back to the default threshold")
    else:
        _show(collection, done)
    if plot is not None:
        show(plot, drawn, opened=open, quiet=json)


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
            for source in planned.sources():
                try:
                    packed.writestr(source.name, source.read(2**30))
                except Unreadable as error:
                    bad_rows([(source.name, str(error))])
        bad_rows((each.path, each.reason) for each in planned.bad)
        if not planned.count:
            raise SourceError(f"{path} has no picture in it")
        yield archive


@contextmanager
def _paired(path: Path | None) -> Iterator[dict[str, Path]]:
    """The table with an archive of the pictures that it names, as HTTP takes them. Raises PairsRefused, OSError."""
    from service.quality.pairs import read_pairs

    if path is None:
        yield {}
        return
    known = read_pairs(path.read_bytes())
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        table, archive = Path(folder) / "pairs.csv", Path(folder) / "pictures.zip"
        rows = [("image", "id", "label")]
        with zipfile.ZipFile(archive, "w") as packed:
            for number, pair in enumerate(known):
                picture = Path(pair.picture)
                outside = picture.is_absolute() or ".." in picture.parts
                name = f"{number:06d}/{picture.name}" if outside else pair.picture
                rows.append((name, pair.id, pair.label))
                file = path.parent / picture
                if file.is_file():  # others are told of as missing in the archive
                    packed.write(file, name)
        with table.open("w", encoding="utf-8", newline="") as written:
            csv.writer(written).writerows(rows)
        yield {"pairs": table, "pictures": archive}


async def _asked(
    settings: Settings, collection: str, sent: Mapping[str, Path], fields: dict[str, str], reset: bool, plot: bool
) -> tuple[dict[str, Any] | None, bytes]:
    """The calibration, and its plot where it is wanted."""
    import asyncio

    from service.cli.client import open_service

    base = f"/v1/collections/{quote(collection, safe='')}"
    async with open_service(settings) as service:
        if reset:
            await service.api.call("DELETE", f"{base}/calibration")
            return None, b""
        files: dict[str, Any] = {name: (None, value) for name, value in fields.items()}
        with ExitStack() as opened:
            for part, path in sent.items():
                files[part] = (path.name, opened.enter_context(path.open("rb")))
            done = await service.api.call("POST", f"{base}/calibration", files=files)
        while "score_threshold" not in done:  # a job
            job = done["id"]
            await asyncio.sleep(_POLL)
            done = await service.api.call("GET", f"{base}/jobs/{job}/result")
        drawn = await service.api.content(f"{base}/calibration/plot") if plot else None
        return dict(done), drawn or b""


def _show(collection: str, done: dict[str, Any]) -> None:
    from rich.markup import escape

    console = out()
    console.print(f"[bold]{collection}[/]  a match scores at least [bold]{done['score_threshold']:.4f}[/]")
    if (false := done["false_accepts"]) is not None:
        console.print(
            f"false accepts  {_share(false)} of pictures without a match, asked {done['false_accept_rate']:g}"
        )
    if (kept := done["kept"]) is not None:
        console.print(f"kept           {_share(kept)} of {WHOSE[done['kept_of']]}")
    if (right := done["nearest_right"]) is not None:
        console.print(f"nearest right  {_share(right)} of the same")
    if (point := done["recommended"]) is not None:
        console.print(
            f"best parted    at {point['score_threshold']:.4f}: keeps {_share(point['kept'])}, "
            f"accepts {_share(point['false_accepts'])}"
        )
    if (worst := done["worst_class"]) is not None:
        console.print(f"worst          {escape(worst['label'])}: {_share(worst)}")
    for each in done["in_catalogue"]:
        err().print(f"left out  {escape(each['name'])}  [dim]is {each['id']} ({each['score']:.3f})[/]")
    bad_rows((each["name"], each["reason"]) for each in done["failed"])
    for line in done["warnings"]:
        err().print(f"warning: {line}", style="yellow", markup=False)


def _share(found: dict[str, Any]) -> str:
    return f"{found['value']:.1%} ({found['hits']:,} of {found['count']:,}; {found['low']:.1%} to {found['high']:.1%})"
