"""Embeddings in OpenAI's shape, so that its clients work unchanged."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
from fastapi import APIRouter, Request, Response

from service.embedding.pipeline import Embedded
from service.errors import InvalidRequest
from service.http.answers import answered
from service.http.bodies.reading import read_json
from service.http.middleware import while_connected
from service.http.openapi.describe import json_body, refusals
from service.http.routing import Admitted, Direct, Loaded, deadline
from service.http.schemas.embeddings import EmbeddedPicture, EmbeddingList, EmbeddingRequest, Model, ModelList, Usage
from service.search.query import decode_base64

router = APIRouter(prefix="/v1", tags=["embeddings"], route_class=Direct)


@router.post(
    "/embeddings",
    operation_id="create_embeddings",
    response_model=EmbeddingList,
    responses=refusals("picture", "body", "queue"),
    openapi_extra=json_body(EmbeddingRequest),
)
async def create_embeddings(request: Request, runtime: Loaded, admission: Admitted) -> Response:
    """Makes unit vectors of pictures, under the model for new collections."""
    model = runtime.model
    with admission.body() as room:
        asked = await read_json(request, EmbeddingRequest.read, room)
        if asked.model not in (None, model.label, model.artefact.name):
            raise InvalidRequest("model", f"not served here; the model is {model.label}")
        if asked.dimensions not in (None, model.artefact.dim):
            raise InvalidRequest("dimensions", f"the model gives {model.artefact.dim} numbers, neither more nor fewer")
        until = deadline(runtime)
        inputs = [asked.input] if isinstance(asked.input, str) else asked.input
        pictures = [decode_base64(text, f"input.{number}") for number, text in enumerate(inputs)]

        async def embed_all() -> list[Embedded]:
            # A task group, so that the first bad picture ends the work on the others.
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(runtime.embed(data, deadline=until)) for data in pictures]
            return [task.result() for task in tasks]

        try:
            with admission.place():
                made = await while_connected(request.receive, embed_all())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
    packed = asked.encoding_format == "base64"
    return answered(
        EmbeddingList(
            data=[
                EmbeddedPicture(
                    index=number,
                    embedding=base64.b64encode(each.vector.astype("<f4").tobytes()).decode()
                    if packed
                    else each.vector.astype(np.float64).round(8).tolist(),
                )
                for number, each in enumerate(made)
            ],
            model=model.label,
            usage=Usage(),
        )
    )


@router.get("/models", operation_id="list_models", response_model=ModelList, responses=refusals())
async def list_models(runtime: Loaded) -> Response:
    """Lists the models that embeddings can be asked of."""
    return answered(ModelList(data=[Model(id=runtime.model.label, created=0)]))
