"""The application: routes, error answers and middleware around one runtime."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from service import openapi
from service.middleware import Answers
from service.problems import problem_of
from service.routes import admin, collections, embeddings, items, search, system
from service.runtime import Runtime


def create_app(runtime: Runtime, *, admin_token: str | None = None) -> FastAPI:
    """The ASGI application. It neither opens nor closes `runtime`, and needs no lifespan.

    admin_token: whoever sends it may ask for what commands need; None: nobody.
    """
    app = FastAPI(
        title="Lookalike",
        summary='Upload a photograph, get the most similar pictures of a catalogue, or an honest "no similar images".',
        version=version("lookalike"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={RequestValidationError: answer_problem, HTTPException: answer_problem},
    )
    app.state.runtime = runtime
    app.state.admin_token = admin_token
    # The routes themselves: an included router would be matched and entered a second time on every request.
    for noun in (search, items, collections, embeddings, system, admin):
        app.router.routes.extend(noun.router.routes)
    app.mount("/static", system.Files(directory=system.WEB), name="static")
    app.mount("/docs/static", StaticFiles(directory=system.SWAGGER), name="swagger")

    app.add_middleware(Answers, metrics=runtime.metrics, draining=lambda: runtime.draining)
    origins = [origin.strip() for origin in runtime.settings.cors_origins.split(",") if origin.strip()]
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["ETag", "Retry-After"],
        )

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.describe(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    return app


async def answer_problem(request: Request, error: Exception) -> Response:
    return problem_of(error).response(request.url.path)
