"""When a collection's search index is built, merged or saved:

decided from figures alone, so that it can be tested alone.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field

from index.embedded.ann.compressed import MIN_COMPRESSED
from index.limits import RECALL

_DRIFTED = 1.1  # growth since training from which a new training may help; below, it would only be repeated


class Action(enum.Enum):
    """Work on a live index."""

    BUILD = "build"
    MERGE = "merge"
    MEASURE = "measure"
    SAVE = "save"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A search index, in numbers of vectors.

    compressed: whether a compressed index serves; alive: what a search may find; indexed: covered by the compressed
    index, removed ones included; tail: newer ones, searched exactly; spilt: the newest of those, where the files did
    not take them; dead: removed but still taking room; trained: how many there were when the compressed index was
    trained; saved: whether there is a file of it; unsaved: changes since that was written; lost: whether its files were
    taken away. agreement: share of what a far harder search finds for the newest vectors that an ordinary one finds: it
    falls when the catalogue has drifted away from what was trained on; reached: whether the wanted recall was measured;
    measured: whether searches are as hard as the recall that is wanted now asks for; fitting: whether lists and codes
    were made for that recall, or serve it well enough.
    """

    compressed: bool
    alive: int
    indexed: int = 0
    tail: int = 0
    spilt: int = 0
    dead: int = 0
    trained: int = 0
    unsaved: int = 0
    saved: bool = True
    lost: bool = False
    agreement: float = 1.0
    reached: bool = True
    measured: bool = True
    fitting: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """compress_from: vectors from which a compressed index beats exact search; the rest in the sense of `Figures`.
    threads: cores a build may use. recall: share of the true ten nearest that a search is to find. retry: seconds
    before work that failed is tried again, twice as many after each further failure, retry_most at the utmost.
    """

    compress_from: int = MIN_COMPRESSED
    merge_from: int = 512
    dead_share: float = 0.25
    growth: float = 2.0
    agreement: float = 0.95
    save_share: float = 0.02
    save_from: int = 20_000
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    recall: float = RECALL
    retry: float = 60.0
    retry_most: float = 3_600.0

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return 0.0 if not failures else float(min(self.retry_most, self.retry * 2.0 ** min(failures - 1, 30)))

    def next(self, now: Figures) -> Action | None:
        """What to do next, None when all is well."""
        if not now.compressed:
            return Action.BUILD if now.alive >= self.compress_from else None
        if now.lost:
            return Action.BUILD
        if now.alive < self.compress_from // 4:
            return Action.BUILD  # shrunk so far that exact search is better again
        if now.dead > self.dead_share * (now.indexed + now.tail) or now.alive > self.growth * now.trained:
            return Action.BUILD
        if (now.agreement < self.agreement or not now.reached) and now.indexed > _DRIFTED * now.trained:
            return Action.BUILD
        if not now.measured:
            return Action.MEASURE
        if not now.fitting:
            return Action.BUILD
        if now.tail >= self.merge_from or now.spilt:
            return Action.MERGE
        if not now.saved or now.unsaved >= max(self.save_from, self.save_share * now.indexed):
            return Action.SAVE
        return None
