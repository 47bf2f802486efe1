"""The application: routes, error answers and middleware around one runtime."""

from __future__ import annotations

from starlette.types import ASGIApp

from service.http.admission import Admission
from service.http.door import Door, Hosts
from service.http.kinds import register
from service.http.middleware import Answers
from service.http.openapi.committed import routed
from service.http.openapi.describe import describe
from service.http.routes import pages
from service.runtime import Runtime


def create_app(runtime: Runtime, *, admin_token: str | None = None) -> ASGIApp:
    """The ASGI application. It neither opens nor closes `runtime`, and needs no lifespan.

    admin_token: whoever sends it may ask for what commands need; None: nobody.
    """
    register(runtime)
    app = routed()
    app.state.runtime = runtime
    app.state.admission = Admission(runtime.settings.queue_limit)
    app.state.admission.publish(runtime.metrics)
    app.state.admin_token = admin_token

    root = runtime.settings.root_path
    app.state.pages = shown = pages.Pages(root, lambda: describe(app, root=root))
    app.mount("/static", shown.web, name="static")
    app.mount("/docs/static", shown.swagger, name="swagger")

    # Straight to the router: `Answers` does what FastAPI's own layers would do in front of it, for a third of the CPU.
    settings = runtime.settings
    return Answers(
        app,
        metrics=runtime.metrics,
        draining=lambda: runtime.draining,
        door=Door(Hosts(settings.allowed_hosts, settings.host), settings.cors_origins),
        root=root,
    )
