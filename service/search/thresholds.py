"""Which score is a match: the request's threshold, or else the one set by hand, the calibrated one, the model's."""

from __future__ import annotations

from typing import Literal, NamedTuple

Source = Literal["request", "collection", "calibrated", "model_default"]


class Threshold(NamedTuple):
    """score: the cosine a result must reach, −1…1; source: where it comes from."""

    score: float
    source: Source


def threshold(
    request: float | None, collection: float | None, model_default: float, calibrated: float | None = None
) -> Threshold:
    """The first that is given: the request's, the one set by hand, the calibrated one, the model's default."""
    if request is not None:
        return Threshold(request, "request")
    if collection is not None:
        return Threshold(collection, "collection")
    if calibrated is not None:
        return Threshold(calibrated, "calibrated")
    return Threshold(model_default, "model_default")
