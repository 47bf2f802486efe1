"""The state of a live index as one value, and the only table of how it changes.

What is searched follows from the phase alone. A transition that the table lacks raises IllegalTransition: a live index
that would need one has lost track of what it holds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from index.embedded.live.upkeep.policy import Action
from index.errors import CollectionNotFound, IndexNotReady, StoreClosed, StoreError


class Phase(enum.Enum):
    """EMPTY: nothing was loaded. EXACT, COMPRESSED: searched. BUILDING: not searched until it is built from the store.
    FAILED: the same, after an attempt that failed. CLOSED: over.
    """

    EMPTY = "empty"
    EXACT = "exact"
    COMPRESSED = "compressed"
    BUILDING = "building"
    FAILED = "failed"
    CLOSED = "closed"


class Event(enum.Enum):
    """What happens to a live index."""

    LOAD = "load"
    BEGIN = "begin"  # an action
    FINISH = "finish"
    FAIL = "fail"
    SERVE_EXACT = "serve exact"  # a structure takes the place of what served
    SERVE_COMPRESSED = "serve compressed"
    DISTRUST = "distrust"
    CLOSE = "close"


_SEARCHED = (Phase.EXACT, Phase.COMPRESSED)
_TABLE: dict[tuple[Phase, Event], Phase] = {
    (Phase.EMPTY, Event.LOAD): Phase.BUILDING,
    (Phase.BUILDING, Event.BEGIN): Phase.BUILDING,
    (Phase.FAILED, Event.BEGIN): Phase.BUILDING,
    (Phase.EXACT, Event.BEGIN): Phase.EXACT,
    (Phase.COMPRESSED, Event.BEGIN): Phase.COMPRESSED,
    **{
        (phase, event): served
        for phase in (Phase.BUILDING, *_SEARCHED)
        for event, served in ((Event.SERVE_EXACT, Phase.EXACT), (Event.SERVE_COMPRESSED, Phase.COMPRESSED))
    },
    **{(phase, Event.FINISH): phase for phase in (Phase.BUILDING, *_SEARCHED, Phase.CLOSED)},
    **{(phase, Event.FAIL): phase for phase in (*_SEARCHED, Phase.CLOSED)},
    (Phase.BUILDING, Event.FAIL): Phase.FAILED,
    **{(phase, Event.DISTRUST): Phase.BUILDING for phase in _SEARCHED},
    **{(phase, Event.CLOSE): Phase.CLOSED for phase in Phase},
}


class IllegalTransition(RuntimeError):
    """An event that cannot happen in this state."""


@dataclass(frozen=True, slots=True)
class State:
    """action: the work under way. failed: the work that did not succeed last, until it does; note: why, empty when all
    is well; failures: how often in a row. dropped: closed because the collection was removed.
    """

    phase: Phase = Phase.EMPTY
    action: Action | None = None
    failed: Action | None = None
    note: str = ""
    failures: int = 0
    dropped: bool = False

    @property
    def searched(self) -> bool:
        """Whether a structure answers."""
        return self.phase in _SEARCHED

    @property
    def busy(self) -> bool:
        """Whether work is under way, or nothing answers until it was done."""
        return self.action is not None or not self.searched

    def load(self) -> State:
        """The files are looked at; until one serves, the index counts as being built."""
        return replace(self, phase=self._next(Event.LOAD))

    def begin(self, action: Action) -> State:
        """Work starts: a build from any phase, merging and saving only where a compressed index serves."""
        phase = self._next(Event.BEGIN)
        if self.action is not None or (action is not Action.BUILD and self.phase is not Phase.COMPRESSED):
            raise IllegalTransition(f"{action.value} cannot begin in {self}")
        return replace(self, phase=phase, action=action)

    def finish(self) -> State:
        """The work is done."""
        phase = self._next(Event.FINISH)
        if self.action is None:
            raise IllegalTransition(f"no work to finish in {self}")
        state = replace(self, phase=phase, action=None)
        # A build has said itself what it led to, when it came to serve.
        return state if self.action is not self.failed or self.action is Action.BUILD else state._well()

    def fail(self, note: str) -> State:
        """The work under way, or a load, did not succeed. What serves goes on serving."""
        phase = self._next(Event.FAIL)
        if self.action is None and self.phase is not Phase.BUILDING:
            raise IllegalTransition(f"no work to fail in {self}")
        failed = self.action or Action.BUILD
        return replace(self, phase=phase, action=None, failed=failed, note=note, failures=self.failures + 1)

    def serve(self, *, compressed: bool, note: str = "") -> State:
        """A structure made from the store answers from now on: what a build made, or a load.

        note: why it is not the one that was wanted; then it counts as a failed attempt as well.
        """
        phase = self._next(Event.SERVE_COMPRESSED if compressed else Event.SERVE_EXACT)
        if self.searched and self.action is not Action.BUILD:
            raise IllegalTransition(f"nothing was built in {self}")
        if not note:
            return replace(self, phase=phase)._well()
        return replace(self, phase=phase, failed=Action.BUILD, note=note, failures=self.failures + 1)

    def distrust(self, note: str) -> State:
        """What answers is wrong: nothing is searched until it was built anew."""
        return replace(self, phase=self._next(Event.DISTRUST), note=note)

    def close(self, *, dropped: bool = False) -> State:
        """Whatever is under way ends without effect."""
        return replace(self, phase=self._next(Event.CLOSE), dropped=self.dropped or dropped)

    def refusal(self, name: str) -> StoreError:
        """Why collection `name` is not searched, as a fresh exception."""
        match self.phase:
            case Phase.CLOSED if self.dropped:
                return CollectionNotFound(f"collection {name!r} was removed")
            case Phase.CLOSED:
                return StoreClosed("the catalogue is closed")
            case Phase.EMPTY:
                return IndexNotReady(f"the search index of {name!r} is not loaded")
            case Phase.FAILED:
                return IndexNotReady(f"the search index of {name!r} could not be built: {self.note}; it is tried again")
            case _:
                return IndexNotReady(f"the search index of {name!r} is being built from the store; try again shortly")

    def _well(self) -> State:
        return replace(self, failed=None, note="", failures=0)

    def _next(self, event: Event) -> Phase:
        try:
            return _TABLE[self.phase, event]
        except KeyError:
            raise IllegalTransition(f"{event.value} in {self}") from None
