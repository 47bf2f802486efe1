"""The watch over a compressed index's recall: measured when it was built, and again as the catalogue grows or drifts.

Real queries take part: the latest are remembered in memory. A cheap look after every few merges (does a far harder
search find other vectors for the newest?) says when to measure before growth alone would.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from index.embedded.ann import measure
from index.embedded.ann.basis import Shape
from index.embedded.ann.compressed import CompressedIndex
from index.embedded.ann.effort import Effort
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.ann.recall import NEAREST
from index.embedded.ann.sample import Sample
from index.embedded.live.rwlock import ReadWriteLock
from index.embedded.live.upkeep.asked import Asked
from index.embedded.live.upkeep.measured import Measured

_CHECK_FROM, _CHECK_SHARE = 512, 0.05  # merged rows after which it is looked whether searches still find enough
_MEASURE_SHARE = 0.1  # merged rows after which recall is measured in any case
_DRIFTED = 0.98  # agreement below which it is measured at once
_SAMPLE = 64
_REST = 0.1  # seconds at most that a piece of measuring gives way to searches


class Watch:
    """measured: what was found last, None before. agreement: share of what a far harder search finds for the newest
    rows that an ordinary one finds. wanted: recall that searches are to have. lock: held for reading by each single
    search. asked: the latest real queries.
    """

    def __init__(self, index: CompressedIndex, file: VectorFile, lock: ReadWriteLock, asked: Asked) -> None:
        self.wanted = 0.0
        self.agreement = 1.0
        self.measured: Measured | None = None
        self._index = index
        self._file = file
        self._lock = lock
        self._asked = asked
        self._unchecked = 0
        self._unmeasured = 0

    @property
    def effort(self) -> Effort:
        """What a search for ten looks into now."""
        return self._index.tuning.apply(self._index.usual(NEAREST))

    def note(self, measured: Measured) -> None:
        """Searches are as hard as was found to be needed, from now on."""
        self.measured, self._index.tuning = measured, measured.tuning

    @property
    def shape(self) -> Shape:
        """Of the index."""
        return Shape(self._index.axes, bits=self._index.bits) if self.measured is None else self.measured.shape

    def merged(self, rows: int, breathe: Callable[[], None]) -> None:
        """After so many rows were merged. breathe: may raise to give up."""
        self._unchecked += rows
        self._unmeasured += rows
        if self._unchecked >= max(_CHECK_FROM, _CHECK_SHARE * self._index.indexed):
            self._unchecked = 0
            self.agreement = self._agree()
            if self._unmeasured >= _MEASURE_SHARE * self._index.indexed or self.agreement < _DRIFTED:
                self.measure(breathe)
                self._unmeasured = 0

    def measure(self, breathe: Callable[[], None]) -> None:
        """Searches become as hard as the wanted recall asks for. breathe: may raise to give up."""
        wanted, shape = self.wanted, self.shape
        before = measure.exactly(0) if self.measured is None else self.measured.found
        allowed = before.building * self._index.indexed / max(1, self._index.trained)  # a build would take that long
        began = rested = time.monotonic()
        slept = 0.0
        seen = self._asked.count

        def give_way() -> None:
            nonlocal rested, seen, slept
            breathe()
            if self._asked.count > seen:  # as long as the last piece took: half of the time is the searches'
                rest = min(_REST, time.monotonic() - rested)
                time.sleep(rest)
                slept += rest
            rested, seen = time.monotonic(), self._asked.count

        if wanted >= 1:
            found = measure.exactly(0)
        else:
            queries = self._asked.queries(self._file.dim)
            drawn = Sample.draw(self._index, self._file, queries, give_way, seconds=measure.PASS * allowed)
            found = measure.measure(
                self._index,
                self._file,
                drawn,
                wanted,
                breathe=give_way,
                guard=self._lock.reading,
                patient=lambda: time.monotonic() - began - slept < measure.CHOOSING * allowed,
            )
        built = 0.0 if self.measured is None else self.measured.built
        found = replace(found, seconds=time.monotonic() - began, building=before.building)
        self.note(Measured.now(found, shape, wanted, built))

    def _agree(self) -> float:
        rows = np.linspace(self._index.trained, self._index.indexed - 1, _SAMPLE).astype(np.int64)
        ordinary = self.effort
        hard = Effort(lists=8 * ordinary.most, depth=8 * ordinary.depth)
        agreed = found = 0
        for query, row in zip(self._file.read(rows).astype(np.float32), rows.tolist(), strict=True):
            with self._lock.reading():
                wanted = set(self._index.nearest(query, NEAREST, effort=hard, own=row)[1].tolist())
                agreed += len(wanted.intersection(self._index.nearest(query, NEAREST, own=row)[1].tolist()))
            found += len(wanted)
        return agreed / found
