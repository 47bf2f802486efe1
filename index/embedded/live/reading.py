"""A walk through a collection's stored vectors in the order of their keys; damaged ones are passed over and noted.

Each slice is a read of its own, so that no long snapshot holds the write-ahead log back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from index.embedded.store.vectors import Slice, StoredVectors

_READ = 4_096  # vectors read from the store at once


@dataclass(slots=True)
class Reading:
    """at: key that was read last. damaged: id by key of what was passed over."""

    source: StoredVectors
    at: int = 0
    damaged: dict[int, str] = field(default_factory=dict)

    def next(self) -> Slice:
        """The sound vectors that follow, none of them only at the end of what is committed."""
        while True:
            part = self.source.after(self.at, _READ)
            self.at = part.last
            self.damaged |= part.damaged
            if len(part.keys) or not part.damaged:
                return part
