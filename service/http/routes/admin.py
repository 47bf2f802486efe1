"""What commands beside a running server ask of it; only who can read the note in the data directory has the token."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import Field

from index.errors import StoreError
from models.errors import ArtefactError
from service import erasing, upkeep
from service.access import manage
from service.access.audit import Audit
from service.fetching.fetcher import Validators
from service.http.bodies.body import incoming, media_type, to_file
from service.http.bodies.reading import read_json
from service.http.problems import Problem, problem_of
from service.http.routing import Direct, Loaded
from service.http.schemas.base import Request as Strict
from service.imports.rule import Stored
from service.imports.sources.vectors.sieve import VectorFileError
from service.imports.targets.catalogue_target import known, under
from service.imports.targets.versions import remember, versions
from service.imports.upgrades.upgrade import UpgradeRefused, Wish
from service.imports.upgrades.upgrade import asked as carry_out
from service.imports.vector_import import import_vectors
from service.owner import path_of, path_text
from service.runtime import Runtime
from service.sample.presence import give_way
from service.text import readable


def holder(request: Request) -> None:
    """Raises `not-found` without the token of the note: to everyone else these routes are not there."""
    token: str | None = request.app.state.admin_token
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token is None or scheme.lower() != "bearer" or not secrets.compare_digest(given.encode(), token.encode()):
        raise Problem("not-found", "There is no such path; see /docs")


router = APIRouter(prefix="/admin", include_in_schema=False, route_class=Direct)


class SnapshotRequest(Strict):
    file: str
    force: bool = False


class VerifyRequest(Strict):
    pass


class EraseRequest(Strict):
    collection: str | None = None
    ids: list[str] = Field(default_factory=list)
    key: str | None = None
    snapshots: bool = False


class VectorsRequest(Strict):
    file: str
    collection: str
    ids: str | None = None
    foreign: str | None = None


class KnownRequest(Strict):
    collection: str
    ids: list[str]


class UnderRequest(Strict):
    collection: str
    paths: list[str]


class VersionsRequest(Strict):
    collection: str
    urls: list[str]


class Said(Strict):
    sha256: str
    etag: str
    modified: str


class RememberRequest(Strict):
    collection: str
    url: str
    said: Said


class GiveWayRequest(Strict):
    collection: str


class UpgradeRequest(Strict):
    collection: str
    model: str | None = None
    precision: str | None = None
    label: str = "label"
    force: bool = False
    discard: bool = False


class KeyRequest(Strict):
    scope: str
    name: str = ""
    collection: str | None = None
    expires: str | None = None
    rate: str | None = None


class RevokeRequest(Strict):
    id: str


class KeysRequest(Strict):
    pass


@router.post("/keys/create")
async def create_key(request: Request, runtime: Loaded) -> Response:
    """A new key, in force with this answer."""
    holder(request)
    asked = await read_json(request, KeyRequest.read)
    made = await runtime.write(lambda: manage.create(runtime.catalogue, audit_of(request), **asked.model_dump()))
    await runtime.read(request.app.state.access.read)
    return _json(made)


@router.post("/keys/list")
async def list_keys(request: Request, runtime: Loaded) -> Response:
    """Every key, without its text."""
    holder(request)
    await read_json(request, KeysRequest.read)
    return _json(await runtime.read(lambda: manage.listed(runtime.catalogue)))


@router.post("/keys/revoke")
async def revoke_key(request: Request, runtime: Loaded) -> Response:
    """Takes a key away; it opens nothing once this is answered."""
    holder(request)
    asked = await read_json(request, RevokeRequest.read)
    gone = await runtime.write(lambda: manage.revoke(runtime.catalogue, audit_of(request), id=asked.id))
    await runtime.read(request.app.state.access.read)
    return _json(gone)


def audit_of(request: Request) -> Audit:
    audit: Audit = request.app.state.audit
    return audit


@router.post("/snapshot")
async def snapshot(request: Request, runtime: Loaded) -> Response:
    """Writes a snapshot to a path of this machine."""
    holder(request)
    asked = await read_json(request, SnapshotRequest.read)
    return await _done(runtime, lambda: upkeep.snapshot(runtime.catalogue, path_of(asked.file), force=asked.force))


@router.post("/erase")
async def erase(request: Request, runtime: Loaded) -> Response:
    """Deletes what is named, and erases what was deleted so far from every file of the data directory."""
    holder(request)
    asked = await read_json(request, EraseRequest.read)
    wish = await runtime.write(erasing.revoke, runtime.catalogue, erasing.Wish(**asked.model_dump()))
    if wish.key is not None:
        await runtime.read(request.app.state.access.read)
    if wish.collection is not None and not wish.ids:
        await runtime.remove(runtime.collection(wish.collection))
        await runtime.jobs.drop(wish.collection, forget=True)
    audit, stopped = audit_of(request), lambda: runtime.draining
    return await _done(runtime, lambda: erasing.erase(runtime.catalogue, audit, wish, stopped))


@router.post("/verify")
async def verify(request: Request, runtime: Loaded) -> Response:
    """Checks the whole catalogue."""
    holder(request)
    await read_json(request, VerifyRequest.read)
    return await _done(runtime, lambda: upkeep.verify(runtime.catalogue))


@router.post("/vectors")
async def vectors(request: Request, runtime: Loaded) -> Response:
    """Imports a file of ready vectors: from a path of this machine (JSON), or uploaded with its ids (a form)."""
    holder(request)
    if media_type(request) != "multipart/form-data":
        return await _import_vectors(runtime, await read_json(request, VectorsRequest.read))
    settings = runtime.settings
    with incoming(settings.data_dir) as folder:
        sent = await to_file(
            request,
            folder,
            settings.max_import_bytes,
            settings.request_timeout,
            files=("file", "ids"),
            fields=("collection", "foreign"),
        )
        asked = VectorsRequest.read(sent.fields | {name: path_text(path) for name, path in sent.files.items()})
        return await _import_vectors(runtime, asked)


async def _import_vectors(runtime: Runtime, asked: VectorsRequest) -> Response:
    return await _done(
        runtime,
        lambda: import_vectors(
            runtime.catalogue,
            path_of(asked.file),
            asked.collection,
            ids=None if asked.ids is None else path_of(asked.ids),
            foreign=asked.foreign,
            default=lambda: runtime.model.record,
        ),
    )


@router.post("/known")
async def known_items(request: Request, runtime: Loaded) -> Response:
    """What a collection holds under some ids: sha256 (null for an imported vector) and metadata, by id."""
    holder(request)
    asked = await read_json(request, KnownRequest.read)
    return _stored(await runtime.read(known, runtime.collection(asked.collection), asked.ids))


@router.post("/under")
async def items_under(request: Request, runtime: Loaded) -> Response:
    """The same of the items that came from files with these paths."""
    holder(request)
    asked = await read_json(request, UnderRequest.read)
    return _stored(await runtime.read(under, runtime.collection(asked.collection), asked.paths))


def _stored(found: Mapping[str, Stored]) -> Response:
    items = {id: {"sha256": stored.sha256, "metadata": stored.metadata} for id, stored in found.items()}
    return _json({"items": items})


@router.post("/versions")
async def versions_of(request: Request, runtime: Loaded) -> Response:
    """What servers said of the pictures at some addresses."""
    holder(request)
    asked = await read_json(request, VersionsRequest.read)
    found = await runtime.read(versions, runtime.collection(asked.collection), asked.urls)
    return _json({"versions": {url: asdict(said) for url, said in found.items()}})


@router.post("/remember")
async def remember_version(request: Request, runtime: Loaded) -> Response:
    """Keeps what a server said of a picture."""
    holder(request)
    asked = await read_json(request, RememberRequest.read)
    said = {asked.url: Validators(**asked.said.model_dump())}
    await runtime.write(remember, runtime.collection(asked.collection), said)
    return _json({})


@router.post("/give-way")
async def give_way_to_pictures(request: Request, runtime: Loaded) -> Response:
    """The sample gives way to a person's own pictures; says whether it was there."""
    holder(request)
    asked = await read_json(request, GiveWayRequest.read)
    gave_way = await runtime.write(give_way, runtime.catalogue, asked.collection, runtime.model.record)
    return _json({"gave_way": gave_way})


@router.post("/upgrade")
async def upgrade_collection(request: Request, runtime: Loaded) -> Response:
    """Upgrades a collection to a model that is built, or discards what an upgrade has left."""
    holder(request)
    asked = await read_json(request, UpgradeRequest.read)
    wish = Wish(**asked.model_dump())
    try:
        done = await carry_out(runtime.settings, runtime.catalogue, runtime.pipeline, runtime.threads, wish)
    except (UpgradeRefused, ArtefactError) as error:
        raise Problem("invalid-request", readable(str(error))) from error
    return _json(done)


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


async def _done(runtime: Runtime, work: Callable[[], dict[str, Any]]) -> Response:
    """Runs long work beside the event loop. What it refuses is answered in its own words."""
    try:
        return _json(await runtime.write(work))
    except (VectorFileError, StoreError, OSError) as error:
        problem = problem_of(error)
        if problem.slug != "internal":
            raise Problem(problem.slug, readable(problem.detail)) from error
        named = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        raise Problem("invalid-request", readable(named)) from error
