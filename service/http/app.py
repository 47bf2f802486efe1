"""The application: routes, error answers and middleware around one runtime."""

from __future__ import annotations

from typing import Any

from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from service.http import openapi
from service.http.admission import Admission
from service.http.document import routed
from service.http.door import Door, Hosts
from service.http.middleware import Answers
from service.http.routes import system
from service.runtime import Runtime


def create_app(runtime: Runtime, *, admin_token: str | None = None) -> ASGIApp:
    """The ASGI application. It neither opens nor closes `runtime`, and needs no lifespan.

    admin_token: whoever sends it may ask for what commands need; None: nobody.
    """
    app = routed()
    app.state.runtime = runtime
    app.state.admission = Admission(runtime.settings.queue_limit)
    app.state.admission.publish(runtime.metrics)
    app.state.admin_token = admin_token
    app.mount("/static", system.Files(directory=system.WEB), name="static")
    app.mount("/docs/static", StaticFiles(directory=system.SWAGGER), name="swagger")

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.describe(app, root=runtime.settings.root_path)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    # Straight to the router: `Answers` does what FastAPI's own layers would do in front of it, for a third of the CPU.
    settings = runtime.settings
    return Answers(
        app,
        metrics=runtime.metrics,
        draining=lambda: runtime.draining,
        door=Door(Hosts(settings.allowed_hosts, settings.host), settings.cors_origins),
        root=settings.root_path,
    )
