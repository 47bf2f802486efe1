"""Which score is a match: the request's threshold, or else the one set by hand, or else the model's default."""

from __future__ import annotations

from typing import Literal, NamedTuple

Source = Literal["request", "collection", "calibrated", "model_default"]


class Threshold(NamedTuple):
    """score: the cosine a result must reach, −1…1; source: where it comes from."""

    score: float
    source: Source


def threshold(request: float | None, collection: float | None, model_default: float) -> Threshold:
    """The first that is given: the request's, the one set by hand, the model's default."""
    if request is not None:
        return Threshold(request, "request")
    if collection is not None:
        return Threshold(collection, "collection")
    return Threshold(model_default, "model_default")
