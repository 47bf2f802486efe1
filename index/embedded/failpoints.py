"""Named places where a crash would hurt most.

The store calls `hit` there; only tests hand in an object that acts on it.
"""

from __future__ import annotations

from typing import Protocol


class Failpoints(Protocol):
    """What tests pass in to stop the process, or raise, at a named place."""

    def hit(self, name: str) -> None: ...


class NoFailpoints:
    """The one in production: nothing happens."""

    def hit(self, name: str) -> None:
        """Does nothing."""
