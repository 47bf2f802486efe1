"""Requests that work as they are, on a fresh service too: what `/docs` sends when nothing is changed."""

from __future__ import annotations

from typing import Any

# A grey square of 8 × 8 pixels.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGNsaGhgwAaYsIoOWgkAMBcBkGHHl6YAAAAASUVORK5CYII="

# By operation; the first one is the one shown.
REQUESTS: dict[str, dict[str, Any]] = {
    "create_collection": {"plain": {}, "with a threshold": {"score_threshold": 0.6}},
    "update_collection": {"back to the default": {"score_threshold": None}, "by hand": {"score_threshold": 0.6}},
    "update_item": {"merge": {"metadata": {"price": 11, "sale": True}}},
    "delete_items": {
        "by id": {"ids": ["shirt-2", "shirt-3"]},
        "by filter": {"filter": {"must": [{"key": "brand", "match": "acme"}]}},
    },
    "query": {
        "by picture": {"image_base64": PNG, "limit": 5},
        "by item": {"id": "shirt-1", "filter": {"must": [{"key": "price", "range": {"gte": 10, "lt": 20}}]}},
        "by examples": {"positive": ["shirt-1", "shirt-2"], "negative": ["shirt-3"]},
        "by several pictures": {"positive": [{"image_base64": PNG, "weight": 2}, {"image_base64": PNG}, "shirt-1"]},
    },
    "query_batch": {"two": {"queries": [{"image_base64": PNG, "limit": 1}, {"id": "shirt-1", "limit": 3}]}},
    "similar_batch": {"two": {"ids": ["shirt-1", "shirt-2"], "limit": 3}},
    "create_embeddings": {"one": {"input": [f"data:image/png;base64,{PNG}"], "encoding_format": "float"}},
}
