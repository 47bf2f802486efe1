"""The watch over a compressed index's recall: measured when it was built, and again as the catalogue grows or drifts.

Real queries take part: the latest are remembered in memory. A cheap look after every few merges (does a far harder
search find other vectors for the newest?) says when to measure before growth alone would.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from index.embedded.ann import measure
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.effort import Effort
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.recall import NEAREST
from index.embedded.live.rwlock import ReadWriteLock
from index.embedded.live.upkeep.measured import Measured
from index.items import Vector

_CHECK_FROM, _CHECK_SHARE = 2_048, 0.05  # merged rows after which it is looked whether searches still find enough
_MEASURE_SHARE = 0.25  # merged rows after which recall is measured in any case
_DRIFTED = 0.98  # agreement below which it is measured at once
_SAMPLE = 64
_ASKED = 128  # real queries remembered


class Watch:
    """measured: what was found last, None before. agreement: share of what a far harder search finds for the newest
    rows that an ordinary one finds. lock: held for reading by each single search.
    """

    def __init__(self, index: CompressedIndex, file: VectorFile, lock: ReadWriteLock) -> None:
        self.agreement = 1.0
        self.measured: Measured | None = None
        self._index = index
        self._file = file
        self._lock = lock
        self._asked: deque[Vector] = deque(maxlen=_ASKED)
        self._unchecked = 0
        self._unmeasured = 0

    @property
    def effort(self) -> Effort:
        """What a search for ten looks into now."""
        return self._index.tuning.apply(self._index.usual(NEAREST))

    def note(self, measured: Measured) -> None:
        """Searches are as hard as was found to be needed, from now on."""
        self.measured, self._index.tuning = measured, measured.tuning

    def ask(self, query: Vector) -> None:
        """Remembers a real query float32 (dim,)."""
        self._asked.append(query.copy())

    def merged(self, rows: int, recall: float, breathe: Callable[[], None]) -> None:
        """After so many rows were merged. recall: that searches are to have. breathe: may raise to give up."""
        self._unchecked += rows
        self._unmeasured += rows
        if self._unchecked >= max(_CHECK_FROM, _CHECK_SHARE * self._index.indexed):
            self._unchecked = 0
            self.agreement = self._agree()
            if self._unmeasured >= _MEASURE_SHARE * self._index.indexed or self.agreement < _DRIFTED:
                self._measure(recall, breathe)
                self._unmeasured = 0

    def _measure(self, recall: float, breathe: Callable[[], None]) -> None:
        asked = self._asked.copy()
        queries = np.stack(asked) if asked else np.empty((0, self._file.dim), np.float32)
        drawn = measure.Sample.draw(self._index, self._file, queries, breathe)
        tried, reached = measure.measure(
            self._index, self._file, drawn, recall, share=1.0, breathe=breathe, guard=self._lock.reading
        )
        if not reached:
            tried = measure.exactly(drawn, self._index, self._file)
        self.note(Measured.now(tried, recall))

    def _agree(self) -> float:
        rows = np.linspace(self._index.trained, self._index.indexed - 1, _SAMPLE).astype(np.int64)
        ordinary = self.effort
        hard = Effort(lists=8 * ordinary.most, depth=8 * ordinary.depth)
        agreed = found = 0
        for query in self._file.read(rows).astype(np.float32):
            with self._lock.reading():
                wanted = set(self._index.nearest(query, NEAREST, effort=hard)[1].tolist())
                agreed += len(wanted.intersection(self._index.nearest(query, NEAREST)[1].tolist()))
            found += len(wanted)
        return agreed / found
