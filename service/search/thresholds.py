"""Which score is a match: the request's threshold, or else the one set by hand, or else the model's default."""

from __future__ import annotations


def threshold(request: float | None, collection: float | None, model_default: float) -> tuple[float, str]:
    """The score a result must reach, and where it comes from: request, set by hand, model default."""
    if request is not None:
        return request, "request"
    if collection is not None:
        return collection, "collection"
    return model_default, "model_default"
