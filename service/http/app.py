"""The application: routes, error answers and middleware around one runtime."""

from __future__ import annotations

from service.access.access import Access
from service.access.audit import Audit
from service.http.admission import Admission
from service.http.door import Door, Hosts, is_loopback
from service.http.kinds import register
from service.http.middleware import Answers
from service.http.openapi.committed import routed
from service.http.openapi.describe import describe
from service.http.routes import pages
from service.runtime import Runtime
from service.settings import Settings


def needs_key(settings: Settings) -> bool:
    """Whether nobody may ask without a key, even while there is none: the service is reached from other machines."""
    return not settings.insecure and not is_loopback(settings.host)


def create_app(runtime: Runtime, *, admin_token: str | None = None) -> Answers:
    """The ASGI application. It neither opens nor closes `runtime`, and needs no lifespan.

    admin_token: whoever sends it owns the data directory: everything is open, also what commands need; None: nobody.
    """
    register(runtime)
    settings = runtime.settings
    app = routed()
    app.state.runtime = runtime
    app.state.admission = Admission(runtime.settings.queue_limit)
    app.state.admission.publish(runtime.metrics)
    app.state.admin_token = admin_token
    app.state.access = Access(runtime.catalogue.records, owner=admin_token, required=needs_key(settings))
    app.state.audit = Audit(settings.data_dir)

    root = runtime.settings.root_path
    app.state.pages = shown = pages.Pages(root, lambda: describe(app, root=root))
    app.mount("/static", shown.web, name="static")
    app.mount("/docs/static", shown.swagger, name="swagger")

    # Straight to the router: `Answers` does what FastAPI's own layers would do in front of it, for a third of the CPU.
    return Answers(
        app,
        metrics=runtime.metrics,
        draining=lambda: runtime.draining,
        door=Door(Hosts(settings.allowed_hosts, settings.host), settings.cors_origins),
        root=root,
    )
