"""Health, metrics, what runs here, the API's description and the web page."""

from __future__ import annotations

import platform
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fastapi_swagger
from fastapi import APIRouter, Response
from starlette.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles

from models.pictures.limits import Limits
from service.embedding.loaded import LoadedModel, on_cpu
from service.http.answers import answered
from service.http.openapi import refusals
from service.http.routing import Direct, Loaded
from service.http.schemas import system as schemas
from service.metrics import CONTENT_TYPE
from service.search.limits import MAX_BATCH, MAX_RESULTS

router = APIRouter(tags=["system"], route_class=Direct)

WEB = Path(__file__).resolve().parents[2] / "web"
SWAGGER = Path(fastapi_swagger.__file__).resolve().parent / "resources"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

METRICS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Prometheus text",
        "content": {"text/plain": {"schema": {"type": "string", "maxLength": 2**24}}},
    }
}

DOCS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Lookalike API</title>
<link rel="icon" href="/static/favicon.svg"><link rel="stylesheet" href="/docs/static/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="/docs/static/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true})</script></body></html>
"""


@router.get("/livez", operation_id="livez", response_model=schemas.Health, responses=refusals())
async def livez() -> Response:
    """Says that the process is up."""
    return answered(schemas.Health(status="ok"))


@router.get("/readyz", operation_id="readyz", response_model=schemas.Health, responses=refusals())
async def readyz(runtime: Loaded) -> Response:
    """Says whether the model answers a real inference and every search index is loaded; 503 otherwise."""
    await runtime.check_ready()
    return answered(schemas.Health(status="ready"))


@router.get("/metrics", operation_id="metrics", response_class=Response, responses=METRICS | refusals())
async def metrics(runtime: Loaded) -> Response:
    """Gives the metrics for Prometheus."""
    return Response(await runtime.read(runtime.scrape), media_type=CONTENT_TYPE)


@router.get("/v1/info", operation_id="info", response_model=schemas.Info, responses=refusals())
async def info(runtime: Loaded) -> Response:
    """Says what runs here: versions, models, the providers really in use, limits."""
    settings = runtime.settings
    return answered(
        schemas.Info(
            version=version("lookalike"),
            versions=versions(),
            model=described(runtime.model),
            models=[described(each) for each in runtime.models],
            device="cpu" if on_cpu(runtime.model.providers) else "cuda",
            threads=runtime.cores,
            limits=schemas.Limits(
                max_upload_bytes=settings.max_upload_bytes,
                max_pixels=settings.max_pixels,
                max_side=Limits().max_side,
                queue_limit=settings.queue_limit,
                limit=MAX_RESULTS,
                batch_queries=MAX_BATCH,
            ),
        )
    )


def described(network: LoadedModel) -> schemas.ModelInfo:
    artefact = network.artefact
    return schemas.ModelInfo(
        name=artefact.name,
        precision=artefact.precision,
        fingerprint=artefact.fingerprint,
        dim=artefact.dim,
        default_threshold=artefact.default_threshold,
        providers=list(network.providers),
    )


@cache
def versions() -> dict[str, str]:
    import apsw
    import onnxruntime

    return {
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "faiss": version("faiss-cpu"),
        "sqlite": apsw.sqlite_lib_version(),
        "pillow": version("pillow"),
    }


@router.get("/", include_in_schema=False)
async def page(runtime: Loaded) -> Response:
    return HTMLResponse(
        below(index(), runtime.settings.root_path),
        headers={"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"},
    )


@router.get("/docs", include_in_schema=False)
async def docs(runtime: Loaded) -> Response:
    return HTMLResponse(below(DOCS, runtime.settings.root_path))


@cache
def index() -> str:
    return (WEB / "index.html").read_text("utf-8")


def below(page: str, root: str) -> str:
    """A page whose links from the origin lead below `root`."""
    return re.sub(r"""(?<=["'])/(?=(?:static|docs|openapi\.json)\b)""", f"{root}/", page)


@router.get("/favicon.ico", include_in_schema=False)
async def favicon() -> Response:
    return FileResponse(WEB / "favicon.svg", media_type="image/svg+xml")


class Files(StaticFiles):
    """Static files that a browser asks about again after an upgrade."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response: Response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response
