"""A calibrated collection as searches see it: the score a match must reach, and what strangers scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from index.errors import RecordNotFound, StoreCorrupt
from index.types import Collection

KIND, NAME = "calibration", "current"  # of the record


@dataclass(frozen=True, slots=True)
class Calibrated:
    """score: least cosine of a match. strangers: float64 (n,), increasing, best scores of pictures without a match."""

    score: float
    strangers: npt.NDArray[np.float64]

    def p_value(self, best: float | None) -> float | None:
        """The chance that a picture without a match scores at least `best`; None where that was not measured.

        (1 + how many did) / (1 + n): uniform on such pictures by construction (V. Vovk, A. Gammerman, G. Shafer,
        Algorithmic Learning in a Random World, 2005).
        """
        if best is None or not len(self.strangers):
            return None
        above = len(self.strangers) - int(np.searchsorted(self.strangers, best, side="left"))
        return (1 + above) / (1 + len(self.strangers))

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Calibrated:
        """From the record's value. Raises KeyError, TypeError, ValueError where it is none."""
        return cls(float(value["score_threshold"]), np.sort(np.asarray(value["strangers"], np.float64)))


class Calibrations:
    """What is calibrated, by collection; read again where a collection's records have changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Collection, int, Calibrated | None]] = {}

    def known(self, collection: Collection) -> tuple[bool, Calibrated | None]:
        """Whether it is known without reading, and the calibration if any. Never blocks."""
        found = self._known.get(collection.name)
        if found is not None and found[0] is collection and found[1] == collection.revision:
            return True, found[2]
        return False, None

    def of(self, collection: Collection) -> Calibrated | None:
        """The calibration; None without one. Blocks where it is not known."""
        fresh, calibrated = self.known(collection)
        if not fresh:
            revision = collection.revision  # before the record: a change while it is read makes it read again
            calibrated = read(collection)
            self._known[collection.name] = (collection, revision, calibrated)
        return calibrated


def read(collection: Collection) -> Calibrated | None:
    """From the collection's records; None where there is none, none that can be read, or one of another model."""
    try:
        value = collection.records.get(KIND, NAME).value
        return Calibrated.of(value) if value["fingerprint"] == collection.fingerprint else None
    except (RecordNotFound, StoreCorrupt, KeyError, TypeError, ValueError):
        return None
