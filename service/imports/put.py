"""Writing one item: the same bytes, id and metadata again cost nothing, and new metadata alone costs no embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from index.errors import ItemNotFound
from index.items import Entry, Written
from index.limits import MAX_METADATA
from index.types import Collection
from service import strict_json
from service.embedding.pipeline import Pipeline, digest
from service.errors import InvalidRequest
from service.imports.rule import Action, stored_of, upsert
from service.metrics import Metrics
from service.threads import Threads


def metadata_of(text: str) -> Mapping[str, Any]:
    """A JSON object as text → metadata. Raises InvalidRequest."""
    if len(text) > MAX_METADATA:
        raise InvalidRequest("metadata", f"longer than {MAX_METADATA} characters")
    try:
        value = strict_json.loads(text)
    except strict_json.JsonRefused as refused:
        raise InvalidRequest("metadata", str(refused)) from None
    if not isinstance(value, dict):
        raise InvalidRequest("metadata", "must be a JSON object")
    checked_size(value)
    return value


def checked_size(metadata: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for metadata longer than may be stored."""
    try:
        size = len(orjson.dumps(metadata))
    except TypeError:
        raise InvalidRequest("metadata", "nested too deeply") from None
    if size > MAX_METADATA:
        raise InvalidRequest("metadata", f"longer than {MAX_METADATA} bytes")


async def put_item(
    collection: Collection,
    id: str,
    data: bytes,
    metadata: Mapping[str, Any],
    *,
    pipeline: Pipeline,
    threads: Threads,
    metrics: Metrics,
    deadline: float = float("inf"),
) -> Written:
    """Creates or replaces an item from a picture's bytes; on disk when this returns. deadline: monotonic seconds.

    Raises ImageError, EmbeddingInvalid, ModelMismatch, Unavailable, StorageFull.
    """
    sha256 = await digest(data)
    whole = await threads.read(collection.whole, [id], originals=True)
    if id in whole:
        item = whole[id]
        action = upsert(stored_of(item), sha256, metadata).action
        if action is Action.KEEP:
            return Written(item, created=False, changed=False)
        if action is Action.DESCRIBE:
            try:
                item = await threads.write(collection.replace_metadata, id, metadata, sha256=sha256)
                return Written(item, created=False, changed=True)
            except ItemNotFound:
                pass  # deleted or replaced since it was read: the picture counts, as if it had come first
    network = await pipeline.networks.of_collection(collection)
    made = await pipeline.embed(data, network=network, thumbnail=True, deadline=deadline, sha256=sha256)
    entry = Entry(id, made.vector, metadata, made.media, made.thumbnail, data)
    with metrics.stage("write"):
        (written,) = await threads.write(collection.upsert, [entry], fingerprint=collection.fingerprint)
    return written
