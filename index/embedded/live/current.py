"""What serves a collection now: state, structure and the items left out, changed together under one lock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from index.embedded.live.builder import Made
from index.embedded.live.state import State
from index.embedded.live.structure import Structure
from index.embedded.live.upkeep.asked import Asked
from index.embedded.live.upkeep.policy import Figures
from index.embedded.store.encoding import Stored
from index.embedded.store.vectors import Keys

_NAMED = 10  # damaged items that a log line names
_log = logging.getLogger("lookalike.index")


class Current:
    """lock: keeps changes, merges and take-overs apart; searches do without. damaged: id by key of items that are in
    the store and left out of searches. sequence: the newest change that was applied. recall: share of the true nearest
    that searches are to find. asked: the latest real queries.
    """

    def __init__(self, name: str, sequence: int, recall: float) -> None:
        self.name = name
        self.lock = threading.RLock()
        self.state = State()
        self.structure: Structure | None = None
        self.damaged: dict[int, str] = {}
        self.sequence = sequence
        self.recall = recall
        self.asked = Asked()

    @property
    def figures(self) -> Figures:
        """Of what serves; of nothing, none."""
        structure = self.structure
        return Figures(compressed=False, alive=0) if structure is None else structure.figures

    @property
    def searched(self) -> Structure:
        """The structure that answers. Raises IndexNotReady, CollectionNotFound, StoreClosed."""
        state, structure = self.state, self.structure  # in this order: a structure is there before it is searched
        if structure is None or not state.searched:
            raise state.refusal(self.name)
        return structure

    def want(self, recall: float) -> None:
        """Searches are to have this recall from now on."""
        with self.lock:
            self.recall = recall
            if self.structure is not None:
                self.structure.want(recall)

    def apply(self, added: Keys, vectors: Stored, ids: Sequence[str], removed: Keys, sequence: int) -> None:
        """Follows a committed change; what is built at the time reads it from the store."""
        with self.lock:
            self.sequence = max(self.sequence, sequence)
            self._heal(removed)
            if self.structure is not None and self.state.searched:
                self.structure.append(added, vectors, ids)
                self.structure.remove(removed)

    def take_over(self, made: Made, removed: Keys, note: str = "") -> Structure | None:
        """Lets `made` serve; returns what served before.

        removed: keys removed since the making began. note: why it is not the structure that was wanted.
        """
        with self.lock:
            made.catch_up()
            made.structure.remove(removed)
            made.structure.want(self.recall)
            old, self.structure = self.structure, made.structure
            self.damaged = made.reading.damaged
            self._heal(removed)
            self.state = self.state.serve(compressed=made.structure.figures.compressed, note=note)
        if self.damaged:
            names = ", ".join(list(self.damaged.values())[:_NAMED])
            _log.error(
                "collection %s: %d items have a damaged vector and are left out of searches (%s%s); "
                "upload them again or delete them",
                *(self.name, len(self.damaged), names, ", …" if len(self.damaged) > _NAMED else ""),
            )
        return old

    def distrust(self, error: Exception, seen: Structure | None) -> bool:
        """Nothing is searched until it was built anew; whether that is news.

        It is not where it was known, or is of a structure that serves no more.
        """
        with self.lock:
            if not self.state.searched or (seen is not None and seen is not self.structure):
                return False
            _log.error("collection %s: index not to be trusted, rebuilding it from the store: %s", self.name, error)
            self.state = self.state.distrust(str(error))
            return True

    def _heal(self, removed: Keys) -> None:
        if self.damaged:
            gone = set(removed.tolist())
            self.damaged = {key: id for key, id in self.damaged.items() if key not in gone}
