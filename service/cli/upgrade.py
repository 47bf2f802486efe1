"""`lookalike model upgrade`: on the directory, or through the server that owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import DataDir, Json, must_exist, run_async, settings_for
from service.cli.terminal import bad_rows, err, out, print_json

if TYPE_CHECKING:
    from service.settings import Settings


def upgrade(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection.")],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model it gets, already built. [LOOKALIKE_MODEL, resnet50]")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="auto|fp32|bf16|fp16|int8", help="Its precision. [LOOKALIKE_PRECISION, auto]")
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="KEY", help="The metadata key by which two items belong together.")
    ] = "label",
    force: Annotated[
        bool, typer.Option("--force", help="Also where items have no picture, or the new model ranks worse.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Remove what an earlier upgrade has left, and upgrade nothing.")
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Embed a collection again under another model, compare the two, and replace it at once.

    The old one stays beside it as COLLECTION-before until --discard. Exit code 1 where it was not replaced.

    Example: lookalike model upgrade shop --model efficientnet-lite2
    """
    settings = settings_for(data_dir=data_dir, model=model, precision=precision)
    must_exist(settings)
    asked = {
        "collection": collection,
        "model": settings.model,
        "precision": settings.precision,
        "label": label,
        "force": force,
        "discard": discard,
    }
    with err().status(f"upgrading {collection}"):
        done = run_async(_asked(settings, asked))
    if json:
        print_json(done)
    elif discard:
        out().print(f"removed {', '.join(done['discarded'])}")
    else:
        _show(done)
    if not discard and not done["replaced"]:
        raise typer.Exit(1)


async def _asked(settings: Settings, asked: dict[str, Any]) -> dict[str, Any]:
    from index.errors import DirectoryLocked
    from service.cli.client import ask_owner
    from service.imports.upgrades import upgrade as work
    from service.runtime import Runtime

    try:
        runtime = await Runtime.open(settings)
    except DirectoryLocked as locked:
        return dict(await ask_owner(settings, locked, "/admin/upgrade", asked))
    try:
        return await work.asked(
            runtime.settings, runtime.catalogue, runtime.pipeline, runtime.threads, work.Wish(**asked)
        )
    finally:
        await runtime.close()


def _show(done: dict[str, Any]) -> None:
    compared = done["compared"]
    shown = [f"{done['items']:,} items", f"{done['embedded']:,} embedded"]
    if compared["queries"]:
        shown.append(f"{compared['agreement']:.0%} of the nearest are the same")
    if compared["labelled"]:
        shown.append(f"mAP {compared['before']:.3f} → {compared['after']:.3f}")
    out().print(f"[bold]{done['collection']}[/]  {done['before']} → {done['after']}  {', '.join(shown)}")
    bad_rows((row["id"], row["reason"]) for row in done["missing"])
    if done["without"] > len(done["missing"]):
        err().print(f"and {done['without'] - len(done['missing']):,} more")
    if not done["replaced"]:
        err().print(f"not replaced: {done['reason']}", markup=False)
        return
    out().print(f"the old one is {done['kept']} until `lookalike model upgrade {done['collection']} --discard`")
    if done["threshold"] is not None:
        err().print(f"its threshold {done['threshold']:g} was set for the old model's scores: set one for the new")
