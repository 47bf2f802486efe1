"""An import's count as it goes, and the summary that a program reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from service.imports.sources.source import Bad


@dataclass(slots=True)
class Tally:
    """total: pictures found, bad ones included. bad: those that failed, where they are kept here. seconds: since the
    import began. put: of those created and replaced, how many went to the target as pictures;
    written: pictures that it has on disk.
    """

    total: int
    created: int = 0
    replaced: int = 0
    unchanged: int = 0
    failed: int = 0
    bad: list[Bad] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    put: int = 0
    written: int = 0

    @property
    def done(self) -> int:
        """Pictures written, and on disk."""
        return self.created + self.replaced - self.put + self.written

    @property
    def handled(self) -> int:
        return self.created + self.replaced + self.unchanged + self.failed

    @property
    def images_per_second(self) -> float:
        """Pictures written, by the whole time."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        """The summary a program reads."""
        return {
            "total": self.total,
            "done": self.done,
            "created": self.created,
            "replaced": self.replaced,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 2),
            "interrupted": self.interrupted,
            "errors": [bad.as_json() for bad in self.bad],
        }
