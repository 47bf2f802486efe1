"""What commands beside a running server ask of it; only who can read the note in the data directory has the token."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from index.errors import StoreError
from service.http.problems import Problem, problem_of
from service.http.routing import Direct, Loaded, read_json
from service.http.wire import json_response
from service.imports import upkeep
from service.imports.sources.vectors import VectorFileError
from service.runtime import Runtime


def holder(request: Request) -> None:
    """Raises `not-found` without the token of the note: to everyone else these routes are not there."""
    token: str | None = request.app.state.admin_token
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token is None or scheme.lower() != "bearer" or not secrets.compare_digest(given.encode(), token.encode()):
        raise Problem("not-found", "There is no such path; see /docs")


router = APIRouter(prefix="/admin", include_in_schema=False, route_class=Direct)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SnapshotRequest(Strict):
    file: str
    force: bool = False


class VerifyRequest(Strict):
    pass


class VectorsRequest(Strict):
    file: str
    collection: str
    ids: str | None = None
    foreign: str | None = None


@router.post("/snapshot")
async def snapshot(request: Request, runtime: Loaded) -> Response:
    """Writes a snapshot to a path of this machine."""
    holder(request)
    asked = await read_json(request, SnapshotRequest)
    return await _done(runtime, lambda: upkeep.snapshot(runtime.catalogue, Path(asked.file), force=asked.force))


@router.post("/verify")
async def verify(request: Request, runtime: Loaded) -> Response:
    """Checks the whole catalogue."""
    holder(request)
    await read_json(request, VerifyRequest)
    return await _done(runtime, lambda: upkeep.verify(runtime.catalogue))


@router.post("/vectors")
async def vectors(request: Request, runtime: Loaded) -> Response:
    """Imports a file of ready vectors from a path of this machine."""
    holder(request)
    asked = await read_json(request, VectorsRequest)
    return await _done(
        runtime,
        lambda: upkeep.import_vectors(
            runtime.catalogue,
            Path(asked.file),
            asked.collection,
            ids=None if asked.ids is None else Path(asked.ids),
            foreign=asked.foreign,
            default=lambda: runtime.model.record,
        ),
    )


async def _done(runtime: Runtime, work: Callable[[], dict[str, Any]]) -> Response:
    """Runs long work beside the event loop. What it refuses is told in its own words."""
    try:
        return json_response(await runtime.write(work))
    except (VectorFileError, StoreError, OSError) as error:
        problem = problem_of(error)
        if problem.slug != "internal":
            raise
        named = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        raise Problem("invalid-request", named) from error
