"""What `lookalike keys` does, on an opened catalogue or in the server that owns it; each change is in the audit log."""

from __future__ import annotations

import time
from typing import Any

from index.types import Catalogue
from service.access.access import OWNER
from service.access.audit import Audit
from service.access.keys import Keys


def create(
    catalogue: Catalogue,
    audit: Audit,
    *,
    scope: str,
    name: str = "",
    collection: str | None = None,
    expires: str | None = None,
    rate: str | None = None,
) -> dict[str, Any]:
    """The key as it is shown, and `key`: its text, this once. Raises InvalidRequest."""
    key, text = Keys(catalogue.records).create(
        scope, now=time.time(), name=name, collection=collection, expires=expires, rate=rate
    )
    audit.note(OWNER, "create_key", key=key.id, scope=key.scope, **({"collection": collection} if collection else {}))
    return {"key": text, **key.shown()}


def listed(catalogue: Catalogue) -> dict[str, Any]:
    """Every key, oldest first."""
    return {"keys": [key.shown() for key in Keys(catalogue.records).all()]}


def revoke(catalogue: Catalogue, audit: Audit, *, id: str) -> dict[str, Any]:
    """The key that is gone. Raises RecordNotFound."""
    key = Keys(catalogue.records).revoke(id)
    audit.note(OWNER, "revoke_key", key=key.id)
    return key.shown()
