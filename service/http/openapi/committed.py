"""The OpenAPI document of this version; `python -m service.http.openapi.committed > openapi.json` commits it."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI

from service.http.openapi.describe import describe
from service.http.routes import (
    admin,
    calibration,
    collections,
    embeddings,
    export,
    imports,
    items,
    jobs,
    neighbors,
    pages,
    search,
    system,
)


def routed() -> FastAPI:
    """FastAPI with every route of the contract and nothing behind them."""
    app = FastAPI(
        title="Lookalike",
        summary='Upload a photograph, get the most similar pictures of a catalogue, or an honest "no similar images".',
        version=version("lookalike"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # The routes themselves: an included router would be matched and entered a second time on every request.
    for noun in (
        search,
        neighbors,
        items,
        export,
        collections,
        calibration,
        imports,
        jobs,
        embeddings,
        system,
        admin,
        pages,
    ):
        app.router.routes.extend(noun.router.routes)
    return app


def document() -> dict[str, Any]:
    """The document of a service that no proxy shows under a path."""
    return describe(routed())


def main() -> int:
    made = orjson.dumps(document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if "--check" not in sys.argv[1:]:
        sys.stdout.buffer.write(made)
        return 0
    if made == (Path(__file__).resolve().parents[3] / "openapi.json").read_bytes():
        return 0
    sys.stderr.write("openapi.json is not this version's: python -m service.http.openapi.committed > openapi.json\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
