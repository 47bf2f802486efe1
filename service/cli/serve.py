"""`lookalike serve`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import CollectionOption, DataDir
from service.imports.sources.source import SourceError

if TYPE_CHECKING:
    from service.runtime import Runtime


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Address to listen on. [LOOKALIKE_HOST, 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port; 0 takes a free one. [LOOKALIKE_PORT, 8000]")
    ] = None,
    data_dir: DataDir = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--import",
            "--images",
            metavar="FOLDER",
            help="Import this folder into the collection while already answering.",
        ),
    ] = None,
    collection: CollectionOption = "default",
    sample: Annotated[
        bool,
        typer.Option("--sample", help="Without --import: fill an empty catalogue once with sample pictures."),
    ] = False,
) -> None:
    """Run the service: the API, its documentation at /docs, and the page at /.

    Example: lookalike serve --port 8080 --import ~/photos
    """
    from service.settings import load_settings

    settings, warnings = load_settings(host=host, port=port, data_dir=data_dir)
    if images is not None and not images.is_dir():
        raise SourceError(f"{images} is not a folder" if images.exists() else f"{images} does not exist")

    from service.http.background import import_folder
    from service.http.server import serve as run
    from service.sample.fill import fill

    hooks: list[Callable[[Runtime], Awaitable[None]]] = []
    if images is not None:
        hooks.append(partial(import_folder, root=images, collection=collection))
    elif sample:
        hooks.append(fill)
    run(settings, background=hooks, warnings=warnings)
