"""`lookalike model build|list|verify`; `upgrade` has a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import Command, DataDir, Group, Json, settings_for
from service.cli.terminal import err, out, print_json, print_table, table
from service.cli.upgrade import upgrade
from service.text import readable

if TYPE_CHECKING:
    from models.artefact import Artefact

app = typer.Typer(
    help="Build, list and verify the models that turn pictures into vectors; change a collection's.",
    no_args_is_help=True,
    cls=Group,
)
app.command(cls=Command)(upgrade)

Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The fetched package, or a torchvision state dict. [LOOKALIKE_WEIGHTS]"),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="resnet50, or the lighter efficientnet-lite2. [LOOKALIKE_MODEL, resnet50]"),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="auto|fp32|bf16|fp16|int8|all", help="auto: what this machine runs best. [LOOKALIKE_PRECISION, auto]"
    ),
]


@app.command(cls=Command)
def build(
    model: Model = None,
    precision: Precision = None,
    weights: Weights = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Fetch the weights, verify them, and build the model; one that is there and sound is kept.

    Example: lookalike model build --model efficientnet-lite2
    """
    everything = precision == "all"
    settings = settings_for(
        data_dir=data_dir, model=model, weights=weights, precision=None if everything else precision
    )

    from models.build.build import build as build_one
    from models.registry import PRECISIONS
    from models.runtimes.processor import resolve_precision
    from models.runtimes.ways import file_of

    if everything:
        wanted = list(PRECISIONS)
    else:
        # fp32 is built in any case: the others derive from it, and collections made with it may be about.
        wanted = list(dict.fromkeys(("fp32", file_of(resolve_precision(settings.precision, settings.device)))))
    printed = out(quiet=json)
    with err().status("building the model"):
        built = [
            build_one(
                settings.models,
                model=settings.model,
                precision=each,
                weights=settings.weights,
                progress=lambda line: printed.print(line, style="dim", markup=False),
            )
            for each in wanted
        ]
    _show(settings.data_dir, settings.models, built, json)


@app.command("list", cls=Command)
def list_models(data_dir: DataDir = None, json: Json = False) -> None:
    """List the models that have been built.

    Example: lookalike model list --json
    """
    settings = settings_for(data_dir=data_dir)

    from models import artefact

    _show(settings.data_dir, settings.models, artefact.available(settings.models), json)


@app.command(cls=Command)
def verify(data_dir: DataDir = None, json: Json = False) -> None:
    """Check every model's file, and that it computes here what it should.

    Example: lookalike model verify
    """
    settings = settings_for(data_dir=data_dir)

    from rich.markup import escape

    from models import artefact
    from models.errors import ArtefactError, ArtefactMissing
    from models.runtimes.onnxruntime import verify as check

    found = artefact.available(settings.models)
    if not found:
        raise ArtefactMissing(f"no model in {settings.models}: run `lookalike model build`")
    report: list[dict[str, Any]] = []
    for each in found:
        name = f"{each.name}-{each.precision}"
        try:
            check(each)
        except ArtefactError as error:
            report.append({"model": name, "ok": False, "reason": str(error)})
            err().print(f"[red]bad[/]  {escape(name)}  {escape(str(error))}")
        else:
            report.append({"model": name, "ok": True, "reason": None})
            if not json:
                out().print(f"[green]ok[/]   {escape(name)}")
    if json:
        print_json(report)
    if not all(row["ok"] for row in report):
        raise typer.Exit(1)


def _show(data_dir: Path, model_dir: Path, artefacts: list[Artefact], json: bool) -> None:
    from models.artefact import is_current
    from models.runtimes.choose import known

    runs = {each.path: known(each, (data_dir, model_dir)) for each in artefacts}
    if json:
        print_json(
            [
                {
                    "model": each.name,
                    "precision": each.precision,
                    "fingerprint": each.fingerprint,
                    "dim": each.dim,
                    "default_threshold": each.default_threshold,
                    "bytes": each.path.stat().st_size,
                    "sha256": each.sha256,
                    "current": is_current(model_dir, each),
                    "runtime": run.way.label if (run := runs[each.path]) else None,
                    "images_per_second": run.speed if run else None,
                    "path": readable(each.path),
                }
                for each in artefacts
            ]
        )
        return
    if not artefacts:
        err().print("no model built yet: run `lookalike model build`")
        return
    from rich.markup import escape

    shown = table(
        "model",
        "precision",
        "dim",
        "threshold",
        "size",
        "fingerprint",
        "current",
        "fastest by",
        "file",
        right=("dim", "threshold", "size"),
    )
    for each in artefacts:
        shown.add_row(
            escape(each.name),
            each.precision,
            str(each.dim),
            f"{each.default_threshold:.2f}",
            f"{each.path.stat().st_size / 1e6:.0f} MB",
            escape(each.fingerprint),
            "yes" if is_current(model_dir, each) else "",
            f"{run.way.label}, {run.speed:.0f}/s" if (run := runs[each.path]) else "",
            escape(str(each.path)),
        )
    print_table(out(), shown)
