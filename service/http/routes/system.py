"""Health, metrics, and what runs here."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response

from index import open as engine
from models.pictures.limits import Limits
from service.embedding.loaded import LoadedModel, on_cpu
from service.http.answers import answered
from service.http.openapi.describe import refusals
from service.http.routing import Direct, Loaded
from service.http.schemas import system as schemas
from service.metrics import CONTENT_TYPE
from service.search.limits import MAX_BATCH, MAX_RESULTS

router = APIRouter(tags=["system"], route_class=Direct)

METRICS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Prometheus text",
        "content": {"text/plain": {"schema": {"type": "string", "maxLength": 2**24}}},
    }
}


@router.get("/livez", operation_id="livez", response_model=schemas.Health, responses=refusals())
async def livez() -> Response:
    """Says that the process is up."""
    return answered(schemas.Health(status="ok"))


@router.get("/readyz", operation_id="readyz", response_model=schemas.Health, responses=refusals())
async def readyz(runtime: Loaded) -> Response:
    """Says whether the model answers a real inference and every search index is loaded; 503 otherwise."""
    await runtime.check_ready()
    return answered(schemas.Health(status="ready", confinement=runtime.pipeline.decoder.confinement))


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
            confinement=runtime.pipeline.decoder.confinement,
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
        precision=network.precision,
        fingerprint=artefact.fingerprint,
        dim=artefact.dim,
        default_threshold=artefact.default_threshold,
        providers=list(network.providers),
        runtime=network.runtime,
        images_per_second=(network.run.speed if network.run else 0) or None,
    )


@cache
def versions() -> dict[str, str]:
    import onnxruntime

    return {
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        **engine.versions(),
        "pillow": version("pillow"),
    }
