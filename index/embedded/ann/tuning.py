"""How much harder or less hard than usual one index has to be searched, found by measuring on its own vectors.

`index.embedded.ann.effort` says where to start; what was fitted there on other vectors decides nothing. Breadth (lists
looked into), depth (candidates re-scored) and caution (how soon a search goes on) are raised step by step, each time
the one that brings more recall for its cost, until the target is reached; or lowered while it still is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from index.embedded.ann.effort import Effort
from index.embedded.ann.recall import Recall

_STEP = 1.5
_LEAST = 0.5
_MOST_STEPS = 16
_FEW_STEPS = 2
_MOST_CAUTION = 8


@dataclass(frozen=True, slots=True)
class Tuning:
    """breadth, depth: times as many lists and candidates as `effort_for` says; sifted: times as many again under a
    filter. caution: as of `Effort`. exact: every vector is compared.
    """

    breadth: float = 1.0
    depth: float = 1.0
    exact: bool = False
    sifted: float = 1.0
    caution: int = 0

    def apply(self, effort: Effort, *, filtered: bool = False) -> Effort:
        """What to search with. Under a filter never less than usual: that is what was measured without one."""
        breadth, depth = self.breadth, self.depth
        if filtered:
            breadth, depth = max(1.0, breadth) * self.sifted, max(1.0, depth) * self.sifted
        if breadth == depth == 1.0 and effort.caution == self.caution:
            return effort
        lists, most = (max(1, round(breadth * number)) for number in (effort.lists, effort.most))
        reach = 1 + (effort.reach - 1) * min(breadth, 4.0)
        return Effort(lists, max(1, round(depth * effort.depth)), reach, max(lists, most), effort.spread, self.caution)


@dataclass(frozen=True, slots=True)
class Tried:
    """A tuning, the recall it was measured to have, and what a search costs with it, in nanoseconds, roughly."""

    tuning: Tuning
    recall: Recall
    cost: float


def tune(
    attempt: Callable[[Tuning], Tried],
    target: float,
    most: float,
    start: Tuning = Tuning(),
    patient: Callable[[], bool] = lambda: True,
) -> Tried:
    """The least costly tuning found whose recall reaches `target` with a margin for the sample's uncertainty.

    Where none does at a cost up to `most`, the best that was tried within it, or the first where all cost more.
    attempt: measures; called some ten times. patient: whether there is time to raise effort more than a few times, and
    to look for less that still does.
    """
    first = here = attempt(start)
    tried = [here]
    for step in range(_MOST_STEPS):
        if here.recall.careful >= target or (step >= _FEW_STEPS and not patient()):
            break
        steps = [
            replace(here.tuning, breadth=here.tuning.breadth * _STEP),
            replace(here.tuning, depth=here.tuning.depth * _STEP),
        ]
        if 0 < here.tuning.caution < _MOST_CAUTION:
            steps.append(replace(here.tuning, caution=2 * here.tuning.caution))
        harder = [attempt(tuning) for tuning in steps]
        here = max(harder, key=lambda one: _gain(here, one))
        tried += harder
        if min(one.cost for one in harder) > most:
            break
    reached = [one for one in tried if one.recall.careful >= target and one.cost <= most]
    if not reached:
        within = [one for one in tried if one.cost <= most] or [first]
        return max(within, key=lambda one: (one.recall.value, -one.cost))
    least = min(reached, key=lambda one: one.cost)
    for part in ("depth", "breadth"):
        while (smaller := getattr(least.tuning, part) / _STEP) >= _LEAST and patient():
            cheaper = attempt(replace(least.tuning, **{part: smaller}))
            if cheaper.recall.careful < target or cheaper.cost >= least.cost:
                break
            least = cheaper
    return least


def _gain(before: Tried, after: Tried) -> tuple[float, float]:
    missing = max(1e-9, 1 - before.recall.value)
    return (after.recall.value - before.recall.value) / missing / max(1.0, after.cost - before.cost), -after.cost
