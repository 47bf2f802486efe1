"""The states of a live index: what each event leads to, and that all others raise."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from index.embedded.live.state import IllegalTransition, Phase, State
from index.embedded.live.upkeep.policy import Action
from index.errors import CollectionNotFound, IndexNotReady, StoreClosed

BUILD, MERGE, MEASURE, SAVE = Action.BUILD, Action.MERGE, Action.MEASURE, Action.SAVE
STATES = {
    "empty": State(),
    "exact": State().load().serve(compressed=False),
    "exact, building": State().load().serve(compressed=False).begin(BUILD),
    "building": State().load(),
    "building, at it": State().load().begin(BUILD),
    "compressed": State().load().serve(compressed=True),
    "compressed, building": State().load().serve(compressed=True).begin(BUILD),
    "compressed, merging": State().load().serve(compressed=True).begin(MERGE),
    "compressed, saving": State().load().serve(compressed=True).begin(SAVE),
    "failed": State().load().begin(BUILD).fail("no space"),
    "closed": State().close(),
    "closed, at it": State().load().begin(BUILD).close(),
}
EVENTS = {
    "load": lambda state: state.load(),
    "build": lambda state: state.begin(BUILD),
    "merge": lambda state: state.begin(MERGE),
    "measure": lambda state: state.begin(MEASURE),
    "save": lambda state: state.begin(SAVE),
    "finish": lambda state: state.finish(),
    "fail": lambda state: state.fail("no space"),
    "serve exact": lambda state: state.serve(compressed=False),
    "serve compressed": lambda state: state.serve(compressed=True),
    "distrust": lambda state: state.distrust("row 7 is damaged"),
    "close": lambda state: state.close(),
}
# From → event → the phase and action it leads to; whatever is not listed raises.
LEADS_TO: dict[str, dict[str, tuple[Phase, Action | None]]] = {
    "empty": {"load": (Phase.BUILDING, None)},
    "building": {
        "build": (Phase.BUILDING, BUILD),
        "fail": (Phase.FAILED, None),
        "serve exact": (Phase.EXACT, None),
        "serve compressed": (Phase.COMPRESSED, None),
    },
    "building, at it": {
        "finish": (Phase.BUILDING, None),
        "fail": (Phase.FAILED, None),
        "serve exact": (Phase.EXACT, BUILD),
        "serve compressed": (Phase.COMPRESSED, BUILD),
    },
    "failed": {"build": (Phase.BUILDING, BUILD)},
    "exact": {
        "build": (Phase.EXACT, BUILD),
        "distrust": (Phase.BUILDING, None),
    },
    "exact, building": {
        "finish": (Phase.EXACT, None),
        "fail": (Phase.EXACT, None),
        "serve exact": (Phase.EXACT, BUILD),
        "serve compressed": (Phase.COMPRESSED, BUILD),
        "distrust": (Phase.BUILDING, BUILD),
    },
    "compressed": {
        "build": (Phase.COMPRESSED, BUILD),
        "merge": (Phase.COMPRESSED, MERGE),
        "measure": (Phase.COMPRESSED, MEASURE),
        "save": (Phase.COMPRESSED, SAVE),
        "distrust": (Phase.BUILDING, None),
    },
    "compressed, building": {
        "finish": (Phase.COMPRESSED, None),
        "fail": (Phase.COMPRESSED, None),
        "serve exact": (Phase.EXACT, BUILD),
        "serve compressed": (Phase.COMPRESSED, BUILD),
        "distrust": (Phase.BUILDING, BUILD),
    },
    "compressed, merging": {
        "finish": (Phase.COMPRESSED, None),
        "fail": (Phase.COMPRESSED, None),
        "distrust": (Phase.BUILDING, MERGE),
    },
    "compressed, saving": {
        "finish": (Phase.COMPRESSED, None),
        "fail": (Phase.COMPRESSED, None),
        "distrust": (Phase.BUILDING, SAVE),
    },
    "closed": {},
    "closed, at it": {"finish": (Phase.CLOSED, None), "fail": (Phase.CLOSED, None)},
}


@pytest.mark.parametrize(("name", "event"), list(itertools.product(STATES, EVENTS)))
def test_every_event_in_every_state(name: str, event: str) -> None:
    """Each leads where the table above says, closing works from anywhere, and all others raise."""
    state = STATES[name]
    expected = (Phase.CLOSED, state.action) if event == "close" else LEADS_TO[name].get(event)
    if expected is None:
        with pytest.raises(IllegalTransition):
            EVENTS[event](state)
    else:
        led = EVENTS[event](state)
        assert (led.phase, led.action) == expected


@pytest.mark.parametrize(
    ("state", "error", "text"),
    [
        (State(), IndexNotReady, "not loaded"),
        (STATES["building"], IndexNotReady, "being built"),
        (STATES["failed"], IndexNotReady, "could not be built: no space"),
        (STATES["closed"], StoreClosed, "closed"),
        (State().close(dropped=True), CollectionNotFound, "removed"),
        (State().close(dropped=True).close(), CollectionNotFound, "removed"),
    ],
)
def test_a_refusal_says_why_and_is_a_fresh_one(state: State, error: type[Exception], text: str) -> None:
    """An exception that was raised before grows its traceback; here each is new."""
    refusals = [state.refusal("things") for _ in range(2)]
    assert refusals[0] is not refusals[1]
    for refusal in refusals:
        assert type(refusal) is error and text in str(refusal)
        assert refusal.__traceback__ is None


def test_failures_are_counted_until_one_succeeds() -> None:
    """A structure that is not the wanted one keeps its reason, and counts as a failure too."""
    state = State().load()
    for number in range(1, 4):
        state = state.begin(BUILD).fail(f"attempt {number}")
        assert (state.failures, state.note) == (number, f"attempt {number}")
    state = state.begin(BUILD).serve(compressed=False, note="no files").finish()
    assert (state.failures, state.note, state.searched) == (4, "no files", True)
    state = state.begin(BUILD).serve(compressed=True).finish()
    assert (state.failures, state.note) == (0, "")
    state = state.begin(SAVE).fail("no space").begin(MERGE).finish()
    assert (state.failures, state.note) == (1, "no space")
    state = state.begin(SAVE).finish()
    assert (state.failures, state.note) == (0, "")


class StateMachine(RuleBasedStateMachine):
    """The model: what answers, what is done, and whether it is over."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.loaded = self.closed = self.failed = False
        self.serving: str | None = None
        self.work: Action | None = None

    @rule(action=st.sampled_from(Action))
    def begin(self, action: Action) -> None:
        possible = self.loaded and not self.closed and self.work is None
        if possible and (action is BUILD or self.serving == "compressed"):
            self.state, self.work, self.failed = self.state.begin(action), action, False
        else:
            with pytest.raises(IllegalTransition):
                self.state.begin(action)

    @precondition(lambda self: not self.loaded and not self.closed)
    @rule()
    def load(self) -> None:
        self.state, self.loaded = self.state.load(), True

    @precondition(lambda self: self.work is BUILD and not self.closed)
    @rule(compressed=st.booleans())
    def serve(self, compressed: bool) -> None:
        self.state = self.state.serve(compressed=compressed)
        self.serving = "compressed" if compressed else "exact"

    @precondition(lambda self: self.work is not None)
    @rule(well=st.booleans())
    def end(self, well: bool) -> None:
        self.state = self.state.finish() if well else self.state.fail("a reason")
        self.failed = not well and self.serving is None
        self.work = None

    @rule()
    def distrust(self) -> None:
        if self.serving is not None and not self.closed:
            self.state, self.serving = self.state.distrust("a reason"), None
        else:
            with pytest.raises(IllegalTransition):
                self.state.distrust("a reason")

    @rule(dropped=st.booleans())
    def close(self, dropped: bool) -> None:
        self.state, self.closed = self.state.close(dropped=dropped), True

    @invariant()
    def agrees(self) -> None:
        if self.closed:
            expected = Phase.CLOSED
        elif self.serving is not None:
            expected = Phase(self.serving)
        elif self.failed:
            expected = Phase.FAILED
        else:
            expected = Phase.BUILDING if self.loaded else Phase.EMPTY
        assert self.state.phase is expected
        assert self.state.action is self.work
        assert self.state.searched == (self.serving is not None and not self.closed)
        assert self.state.busy == (self.work is not None or not self.state.searched)


TestStateMachine = StateMachine.TestCase
