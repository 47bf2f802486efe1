"""Scopes: what each operation of the interface needs. docs/access.md shows this table."""

from __future__ import annotations

from typing import Literal

from service.access.keys import Scope

Needs = Scope | Literal["open"]

# By operation id. `open`: asked without a key. What is missing here needs an admin key.
NEEDS: dict[str, Needs] = {
    "livez": "open",
    "readyz": "open",
    "metrics": "admin",
    "info": "search",
    "list_models": "search",
    "create_embeddings": "search",
    "search_by_image": "search",
    "search_by_raw_image": "search",
    "similar_items": "search",
    "query": "search",
    "query_batch": "search",
    "similar_batch": "search",
    "list_neighbors": "search",
    "list_collections": "search",
    "get_collection": "search",
    "list_items": "search",
    "get_item": "search",
    "get_thumbnail": "search",
    "list_jobs": "search",
    "get_job": "search",
    "get_job_result": "search",
    "job_events": "search",
    "list_imports": "search",
    "get_import": "search",
    "import_events": "search",
    "create_import": "write",
    "get_import_errors": "write",
    "cancel_import": "write",
    "cancel_job": "write",
    "create_collection": "write",
    "update_collection": "write",
    "delete_collection": "write",
    "export_items": "write",
    "put_item": "write",
    "update_item": "write",
    "delete_item": "write",
    "delete_items": "write",
    "get_calibration": "search",
    "get_calibration_plot": "search",
    "create_calibration": "write",
    "delete_calibration": "write",
}

# What a key for one collection may ask beside what lies below that collection. None of it shows other collections: the
# list holds that one alone.
ANY_COLLECTION = frozenset({"info", "list_models", "create_embeddings", "list_collections"})


def needs(operation: str) -> Needs:
    """What an operation needs."""
    return NEEDS.get(operation, "admin")
