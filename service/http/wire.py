"""Items, matches and collections as the contract's JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response

from index.types import CollectionInfo, IndexState, Item, Match
from service.search.answer import Answer
from service.search.thresholds import threshold


def json_response(value: Any, status: int = 200) -> Response:
    """JSON as it is, without a second validation on the way out."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def answer_json(answer: Answer) -> dict[str, Any]:
    """The contract's SearchResponse."""
    took, grouped = answer.took, answer.group_by is not None
    return {
        "results": [result_json(answer.collection, match, grouped=grouped) for match in answer.matches],
        "no_match": answer.no_match,
        "message": answer.message,
        "best_score": answer.best_score,
        "score_threshold": answer.threshold.score,
        "threshold_source": answer.threshold.source,
        "filtered_count": answer.filtered_count,
        "model": answer.model,
        "took_ms": {
            "decode": round(took.decode, 3),
            "embed": round(took.embed, 3),
            "search": round(took.search, 3),
            "total": round(took.total, 3),
        },
    }


def result_json(collection: str, match: Match, *, grouped: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": match.item.id,
        "score": match.score,
        "metadata": match.item.metadata,
        "thumbnail_url": thumbnail_url(collection, match.item),
    }
    if grouped:
        shown["group"] = match.group
    return shown


def thumbnail_url(collection: str, item: Item) -> str | None:
    """A path from the origin; ids need no escaping in a path. None for an item imported as a vector."""
    return None if item.media is None else f"/v1/collections/{collection}/items/{item.id}/thumbnail"


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def item_json(item: Item) -> dict[str, Any]:
    media = item.media
    return {
        "id": item.id,
        "metadata": item.metadata,
        "image": None
        if media is None
        else {
            "width": media.width,
            "height": media.height,
            "format": media.format,
            "bytes": media.bytes,
            "sha256": media.sha256,
        },
        "created_at": timestamp(item.created_at),
        "updated_at": timestamp(item.updated_at),
    }


def collection_json(info: CollectionInfo, model_default: float) -> dict[str, Any]:
    least, source = threshold(None, info.score_threshold, model_default)
    return {
        "name": info.name,
        "count": info.count,
        "model": info.model,
        "fingerprint": info.fingerprint,
        "score_threshold": least,
        "threshold_source": source,
        "index_kind": info.index_kind,
        "indexing": info.indexing,
        "bytes": info.bytes,
        "created_at": timestamp(info.created_at),
        "index": index_json(info.index),
    }


def index_json(index: IndexState) -> dict[str, Any]:
    """Of `CollectionInfo.index`."""
    shown = ("vectors", "indexed", "tail", "dead", "memory_bytes", "filter_bytes", "file_bytes", "action", "progress")
    last = index.last
    told = last and {
        "action": last.action,
        "rows": last.rows,
        "seconds": last.seconds,
        "finished_at": timestamp(last.finished_at),
    }
    return {key: getattr(index, key) for key in shown} | {"last": told}
