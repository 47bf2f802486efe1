"""Digests: what a client says of the bytes it sends, by `Content-Digest` or `Repr-Digest` (RFC 9530) or `Digest`."""

from __future__ import annotations

import base64
import binascii
import re

from starlette.datastructures import Headers

from service.http.problems import Problem

# sha-256=:…: of a structured field; SHA-256=… of the older header. Parameters and other algorithms are passed over.
_NEW = re.compile(r"^\s*sha-256\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;.*)?$", re.IGNORECASE)
_OLD = re.compile(r"^\s*sha-256\s*=\s*([A-Za-z0-9+/=]+)\s*$", re.IGNORECASE)
_FORMS = (("content-digest", _NEW), ("repr-digest", _NEW), ("digest", _OLD))


def announced(headers: Headers) -> str | None:
    """The sha256 in lower-case hex that the headers name; None where they name none.

    Raises `invalid-request` for one that is malformed, or two that differ.
    """
    found: set[str] = set()
    for name, form in _FORMS:
        for value in headers.getlist(name):
            for part in value.split(","):
                if part.strip().lower().startswith("sha-256"):
                    found.add(_hex(name, form, part))
    if len(found) > 1:
        raise Problem("invalid-request", "The headers name two different sha-256 digests")
    return found.pop() if found else None


def _hex(name: str, form: re.Pattern[str], part: str) -> str:
    matched = form.match(part)
    try:
        raw = base64.b64decode(matched[1], validate=True) if matched else b""
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        shown = "sha-256=BASE64" if name == "digest" else "sha-256=:BASE64:"
        raise Problem("invalid-request", f"{name.title()} must be {shown}, with 32 bytes in base64")
    return raw.hex()


def differs() -> Problem:
    return Problem(
        "invalid-request",
        "The digest that the headers name is that of neither the file nor the whole body: it was damaged on its way",
    )
