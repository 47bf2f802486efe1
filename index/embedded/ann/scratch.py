"""What the searches of one thread write into, kept for its next search.

Fresh memory comes page by page from the system and goes back at the cost of interrupting all cores, so that two
searching threads wait for each other. Only the thread that owns it may use it, for one search at a time.
"""

from __future__ import annotations

import threading

import faiss
import numpy as np
import numpy.typing as npt

_pointer = faiss.swig_ptr
_LISTS = 128
_ROWS = 256


class Scratch:
    """point: float32 (axes,), the turned query. lists: int64 and away: float32, at least (lists,). rows: int64 and
    estimates: float32, at least (depth,). Each has its address beside it, as FAISS wants it. looked, fetched: lists and
    rows that the last search looked into, over all of its rounds.
    """

    __slots__ = (
        *("point", "point_at", "most", "away", "away_at", "lists", "lists_at"),
        *("depth", "estimates", "estimates_at", "rows", "rows_at"),
        *("looked", "fetched"),
    )

    def __init__(self, axes: int) -> None:
        self.point: npt.NDArray[np.float32] = np.empty(axes, np.float32)
        self.point_at = _pointer(self.point)
        self.most = self.depth = self.looked = self.fetched = 0
        self.room(_LISTS, _ROWS)

    def room(self, lists: int, depth: int) -> None:
        """Makes room for so many lists and rows; what was there is gone."""
        if lists > self.most:
            self.away: npt.NDArray[np.float32] = np.empty(lists, np.float32)
            self.lists: npt.NDArray[np.int64] = np.empty(lists, np.int64)
            self.away_at, self.lists_at = _pointer(self.away), _pointer(self.lists)
            self.most = lists
        if depth > self.depth:
            self.estimates: npt.NDArray[np.float32] = np.empty(depth, np.float32)
            self.rows: npt.NDArray[np.int64] = np.empty(depth, np.int64)
            self.estimates_at, self.rows_at = _pointer(self.estimates), _pointer(self.rows)
            self.depth = depth


class Scratches(threading.local):
    """own: the scratch of the thread that asks."""

    def __init__(self, axes: int) -> None:
        self.own = Scratch(axes)
