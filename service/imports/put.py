"""Writing one item: the same bytes, id and metadata again cost nothing, and new metadata alone costs no embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from index.errors import ItemNotFound
from index.limits import MAX_METADATA
from index.types import Collection, Entry, Item, Written
from service.embedding.pipeline import digest
from service.errors import InvalidRequest
from service.runtime import Runtime


def metadata_of(text: str) -> Mapping[str, Any]:
    """A JSON object as text → metadata. Raises InvalidRequest."""
    if len(text) > MAX_METADATA:
        raise InvalidRequest("metadata", f"longer than {MAX_METADATA} characters")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("metadata", f"not valid JSON ({error.msg} at character {error.pos})") from None
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
    runtime: Runtime,
    collection: Collection,
    id: str,
    data: bytes,
    metadata: Mapping[str, Any],
    *,
    deadline: float = float("inf"),
) -> Written:
    """Creates or replaces an item from a picture's bytes; on disk when this returns.

    Raises ImageError, EmbeddingInvalid, ModelMismatch, Overloaded, StorageFull.
    """
    sha256 = await digest(data)
    standing = await runtime.read(_standing, collection, id)
    if standing is not None and standing.media is not None and standing.media.sha256 == sha256:
        if same_json(standing.metadata, metadata):
            return Written(standing, created=False, changed=False)
        try:
            item = await runtime.write(collection.replace_metadata, id, metadata, sha256=sha256)
            return Written(item, created=False, changed=True)
        except ItemNotFound:
            pass  # deleted or replaced since it was read: the picture counts, as if it had come first
    network = await runtime.pipeline.networks.of_collection(collection)
    made = await runtime.pipeline.embed(data, network=network, thumbnail=True, deadline=deadline, sha256=sha256)
    entry = Entry(id, made.vector, metadata, made.media, made.thumbnail, data)
    with runtime.metrics.stage("write"):
        (written,) = await runtime.write(collection.upsert, [entry], fingerprint=collection.fingerprint)
    return written


def same_json(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two objects are the same JSON; in Python 1, 1.0 and true are equal, to a filter they are not."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


def _standing(collection: Collection, id: str) -> Item | None:
    try:
        return collection.get(id)
    except ItemNotFound:
        return None
