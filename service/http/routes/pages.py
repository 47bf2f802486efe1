"""What people look at: the web page, the API's description and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import fastapi_swagger
import orjson
from fastapi import APIRouter, Request, Response

from service.http.assets import Asset, Folder
from service.http.routing import Direct

router = APIRouter(route_class=Direct, include_in_schema=False)

WEB = Path(__file__).resolve().parents[2] / "web"
SWAGGER = Path(fastapi_swagger.__file__).resolve().parent / "resources"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Swagger UI draws its icons from data: addresses and styles its elements one by one.
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

DOCS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Lookalike API</title>
<link rel="icon" href="/static/favicon.svg"><link rel="stylesheet" href="/docs/static/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="/docs/static/swagger-ui-bundle.js"></script>
<script src="/static/docs.js"></script></body></html>
"""


class Pages:
    """The pages as one service shows them. root: the path under which a proxy does; document: makes the API's."""

    def __init__(self, root: str, document: Callable[[], dict[str, Any]]) -> None:
        self.web, self.swagger = Folder(WEB), Folder(SWAGGER)
        self.index = _page((WEB / "index.html").read_text("utf-8"), root, POLICY)
        self.docs = _page(DOCS, root, DOCS_POLICY)
        self._document = document

    @cached_property
    def document(self) -> Asset:
        return Asset(orjson.dumps(self._document()), "application/json")


def _page(html: str, root: str, policy: str) -> Asset:
    """A page whose links from the origin lead below `root`."""
    html = re.sub(r'(?<=href="|.src=")/', f"{root}/", html)
    return Asset(html.encode(), "text/html", {"Content-Security-Policy": policy})


@router.get("/")
async def page(request: Request) -> Response:
    return await pages_of(request).index.answer(request)


@router.get("/docs")
async def docs(request: Request) -> Response:
    return await pages_of(request).docs.answer(request)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    return await pages_of(request).document.answer(request)


@router.get("/favicon.ico")
async def favicon(request: Request) -> Response:
    return await pages_of(request).web.asset("favicon.svg").answer(request)


def pages_of(request: Request) -> Pages:
    pages: Pages = request.app.state.pages
    return pages
