"""What tests hand in as failpoints: to hold a thread at a named place, or to do something there."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Hold:
    """Holds whoever comes to `name` until `go` is set; `reached` says that somebody has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reached, self.go = threading.Event(), threading.Event()

    def hit(self, name: str) -> None:
        if name == self.name:
            self.reached.set()
            assert self.go.wait(30)


class Doing:
    """Calls `action` at the next `times` passings of `name`; -1: at all of them."""

    def __init__(self, name: str = "", action: Callable[[], object] = lambda: None, times: int = 1) -> None:
        self.arm(name, action, times)

    def arm(self, name: str, action: Callable[[], object], times: int = 1) -> None:
        """Replaces what was asked for before."""
        self.name, self.action, self.times = name, action, times

    def hit(self, name: str) -> None:
        if name == self.name and self.times:
            self.times -= 1
            self.action()


def raising(error: type[Exception], *arguments: object) -> Callable[[], None]:
    """An action for `Doing` that raises a fresh exception each time."""

    def raise_it() -> None:
        raise error(*arguments)

    return raise_it
