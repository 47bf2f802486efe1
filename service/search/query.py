"""A query in the domain's own types: what is looked for, and among what.

A picture's bytes come as they are; text that holds them is decoded here too, for every way in alike.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from index.errors import InvalidVector
from index.filters import Filter
from service.embedding.pipeline import Crop
from service.errors import InvalidRequest
from service.search.limits import DEFAULT_RESULTS
from service.search.rules import NO_RULES, Rules

Vector = npt.NDArray[np.float32]

# Vectors that cancel each other out leave rounding errors of about 1e-7.
LEAST_NORM = 1e-6

_STANDARD = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n\f\v"


@dataclass(frozen=True, slots=True)
class ByPicture:
    """data: a file's bytes. crop: left, top, right, bottom in 0…1 of the upright picture."""

    data: bytes
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class ByHandle:
    """A picture that was searched with before. crop: None for the one it was searched with."""

    id: str
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class ById:
    """A stored item, which is left out of the results."""

    id: str


@dataclass(frozen=True, slots=True)
class ByVector:
    """vector: float32 (dim,) of the collection's model, of any length but zero."""

    vector: Vector


@dataclass(frozen=True, slots=True)
class Example:
    """One of several things that a query is made of. weight: how much it counts beside the others, above 0."""

    by: ByPicture | ByHandle | ById | ByVector
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ByExamples:
    """What is looked for and what is not; items are left out of the results. positive: at least one."""

    positive: Sequence[Example]
    negative: Sequence[Example] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """score_threshold: −1…1; None: the collection's, or else the model's. group_by: metadata key, best item a value.

    rules: how what is found is ordered; facets: metadata keys to be counted; total: whether matches are.
    """

    by: ByPicture | ByHandle | ById | ByVector | ByExamples
    limit: int = DEFAULT_RESULTS
    offset: int = 0
    score_threshold: float | None = None
    filter: Filter | None = None
    group_by: str | None = None
    rules: Rules = NO_RULES
    facets: tuple[str, ...] = ()
    total: bool = False

    @property
    def excluded(self) -> list[str]:
        """Items that the query itself names; they are no results."""
        match self.by:
            case ById(id):
                return [id]
            case ByExamples(positive, negative):
                return [each.by.id for each in (*positive, *negative) if isinstance(each.by, ById)]
        return []


def combined(
    positive: Vector, negative: Vector, weights: Sequence[float] = (), against: Sequence[float] = ()
) -> Vector:
    """mean(positive) − mean(negative) of unit rows (n, dim), negative may have none; renormalised to (dim,).

    weights, against: of the positive and of the negative ones in their means; left out: all alike. Raises
    InvalidRequest where nothing is left.
    """
    vector = np.average(positive.astype(np.float64), axis=0, weights=weights or None)
    if len(negative):
        vector = vector - np.average(negative.astype(np.float64), axis=0, weights=against or None)
    norm = float(np.linalg.norm(vector))
    if norm < LEAST_NORM:
        raise InvalidRequest("positive", "these items cancel each other out; name others")
    unit: Vector = (vector / norm).astype(np.float32)
    return unit


def unit(vector: Vector, dim: int) -> Vector:
    """A vector of any length but zero, at length 1. Raises InvalidVector, as the index does."""
    if vector.shape != (dim,):
        raise InvalidVector(f"a vector must have {dim} numbers, this one has {vector.size}")
    wide = vector.astype(np.float64)
    norm = float(np.linalg.norm(wide))
    if not np.isfinite(norm) or norm == 0:
        raise InvalidVector("a vector must hold finite numbers, and not be zero: that has no direction")
    found: Vector = (wide / norm).astype(np.float32)
    return found


def decode_base64(text: str, field: str) -> bytes:
    """The bytes of base64 text or of a base64 data: URI (RFC 2397).

    Both alphabets of RFC 4648 are taken, with padding or without, and white space anywhere, as MIME breaks its lines.
    Raises InvalidRequest.
    """
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise InvalidRequest(field, "a data: URI must be base64, as in data:image/jpeg;base64,…")
        if "%" in text:
            text = unquote(text)
    try:
        packed = text.encode("ascii").translate(_STANDARD, _SPACE).rstrip(b"=")
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except ValueError:
        raise InvalidRequest(field, "not valid base64") from None
