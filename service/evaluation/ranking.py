"""A ranking judged: where the items that a query should find stand among all of them, by exact cosines.

The catalogue's vectors are walked through twice in blocks, so that a million items need no more memory than the block:
once for the best scores and those of the right items, once to count what stands above these. Pure: arrays in, values
out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

TOP = 10  # nearest items that are kept of each query
BINS = 400  # of scores from −1 to 1
AT_ONCE = 4_096  # queries in one pair of walks: with a block of 2,048 items some 200 MB
# With more labels than that each has too few queries for its false accepts to say anything.
MAX_CLASSES = 2_000
_GONE = np.float32(-3)  # the score of an item that is left out for a query


@dataclass(frozen=True, slots=True)
class Listed:
    """The items in the order of the blocks. labels: values under the key, none to several; files: sha256, or ""."""

    ids: Sequence[str]
    labels: Sequence[tuple[str, ...]]
    files: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Judged:
    """One query. relevant: right items there are; 0 of a stranger.

    first: place of the first right one, from 1; average_precision: over the whole ranking, 0…1; right: of the TOP
    nearest, which are `nearest` (places in `Listed`) with `scores`. same: items of the very same file, left out.
    """

    relevant: int
    first: int | None
    average_precision: float
    right: tuple[bool, ...]
    nearest: tuple[int, ...]
    scores: tuple[float, ...]
    same: int

    @property
    def best(self) -> float | None:
        """Cosine of the nearest item; None where there is nothing to search."""
        return self.scores[0] if self.scores else None


@dataclass(frozen=True, slots=True)
class Pairs:
    """How many (query, item) pairs score how much, by label: int64 (labels, BINS) of right and of wrong ones."""

    labels: list[str]
    right: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ranked:
    """All queries in their order. class_best: float32 (queries, classes), the best score of any item of each class.

    classes: the items' labels, the first of each; none where there are more than MAX_CLASSES.
    """

    judged: list[Judged]
    pairs: Pairs
    classes: list[str]
    class_best: Vectors

    def only(self, kept: Sequence[int]) -> Ranked:
        """The same of some queries; `pairs` stay those of all."""
        return Ranked([self.judged[n] for n in kept], self.pairs, self.classes, self.class_best[list(kept)])


def rank(
    queries: Vectors,
    wanted: Sequence[str],
    files: Sequence[str],
    listed: Listed,
    blocks: Callable[[], Iterable[Vectors]],
    *,
    by_id: bool,
) -> Ranked:
    """queries: float32 (n, dim), unit rows. wanted: label or id of each; "" of a stranger. files: sha256 of each.

    blocks: the items' unit rows in order, from the beginning each time it is called.
    """
    right = _right(wanted, listed, by_id=by_id)
    same = _by_value(listed.files)
    away = [same.get(file, _NONE) if file else _NONE for file in files]
    parts = [
        _some(queries[start:stop], wanted[start:stop], away[start:stop], right, listed, blocks, by_id=by_id)
        for start in range(0, max(1, len(queries)), AT_ONCE)
        for stop in (start + AT_ONCE,)
    ]
    return Ranked(
        [judged for part in parts for judged in part.judged],
        _together([part.pairs for part in parts]),
        parts[0].classes,
        np.concatenate([part.class_best for part in parts]),
    )


def _some(
    queries: Vectors,
    wanted: Sequence[str],
    away: Sequence[Places],
    right: dict[str, Places],
    listed: Listed,
    blocks: Callable[[], Iterable[Vectors]],
    *,
    by_id: bool,
) -> Ranked:
    first = _First(queries, wanted, right, away, listed, by_id=by_id)
    start = 0
    for vectors in blocks():
        first.take(start, _scores(queries, vectors, away, start))
        start += len(vectors)
    hits = [np.sort(np.concatenate(each)) if each else np.zeros(0, np.float32) for each in first.hits]
    above = [np.zeros(len(each), np.float64) for each in hits]
    start = 0
    for vectors in blocks():
        scores = _scores(queries, vectors, away, start)
        for number, own in enumerate(hits):
            if len(own):
                _count(scores[number], own, above[number])
        start += len(vectors)
    nearest = first.nearest()
    return Ranked(
        [
            _judged(hits[n], above[n], nearest[n], right.get(wanted[n], _NONE), len(away[n]))
            for n in range(len(queries))
        ],
        first.pairs(),
        first.classes,
        first.class_best,
    )


_NONE: Places = np.zeros(0, np.int64)


def _together(parts: Sequence[Pairs]) -> Pairs:
    labels = sorted({label for part in parts for label in part.labels})
    places = {label: place for place, label in enumerate(labels)}
    right, wrong = np.zeros((len(labels), BINS), np.int64), np.zeros((len(labels), BINS), np.int64)
    for part in parts:
        where = [places[label] for label in part.labels]
        right[where] += part.right
        wrong[where] += part.wrong
    return Pairs(labels, right, wrong)


def _by_value(values: Sequence[str]) -> dict[str, Places]:
    found: dict[str, list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        if value:
            found[value].append(place)
    return {value: np.array(places, np.int64) for value, places in found.items()}


def _right(wanted: Sequence[str], listed: Listed, *, by_id: bool) -> dict[str, Places]:
    """The places of the items that each wanted value names, increasing."""
    asked = {each for each in wanted if each}
    found: dict[str, list[int]] = defaultdict(list)
    for place in range(len(listed)):
        for value in (listed.ids[place],) if by_id else dict.fromkeys(listed.labels[place]):
            if value in asked:
                found[value].append(place)
    return {value: np.array(places, np.int64) for value, places in found.items()}


def _scores(queries: Vectors, vectors: Vectors, away: Sequence[Places], start: int) -> Vectors:
    scores: Vectors = np.clip(queries @ vectors.T, -1, 1)
    for number, places in enumerate(away):
        for place in places:
            if start <= place < start + len(vectors):
                scores[number, place - start] = _GONE
    return scores


class _First:
    """What the first walk collects."""

    def __init__(
        self,
        queries: Vectors,
        wanted: Sequence[str],
        right: dict[str, Places],
        away: Sequence[Places],
        listed: Listed,
        *,
        by_id: bool,
    ) -> None:
        self.hits: list[list[Vectors]] = [[] for _ in wanted]
        self._right = [
            np.setdiff1d(right.get(value, _NONE), gone) if value else _NONE
            for value, gone in zip(wanted, away, strict=True)
        ]
        self._best = np.zeros((len(queries), 0), np.float32)
        self._places = np.zeros((len(queries), 0), np.int64)
        classes = sorted({labels[0] for labels in listed.labels if labels})
        self.classes = classes if len(classes) <= MAX_CLASSES else []
        numbers = {label: number for number, label in enumerate(self.classes)}
        self._class_of = np.array([numbers.get(each[0], -1) if each else -1 for each in listed.labels], np.int64)
        self.class_best = np.full((len(queries), len(self.classes)), -1, np.float32)
        # One item is no label: of it alone nothing can be said of how labels differ.
        self._labels = [] if by_id else sorted({value for value in wanted if value in right})
        self._label_of = {label: number for number, label in enumerate(self._labels)}
        self._wanted = wanted
        self._of_right = np.zeros((len(self._labels), BINS), np.int64)
        self._of_all = np.zeros((len(self._labels), BINS), np.int64)

    def take(self, start: int, scores: Vectors) -> None:
        stop = start + scores.shape[1]
        places = np.broadcast_to(np.arange(start, stop), scores.shape)
        best, where = np.hstack([self._best, scores]), np.hstack([self._places, places])
        if best.shape[1] > TOP:
            # Stable, so that of equal scores the earlier item comes first.
            order = np.argsort(-best, axis=1, kind="stable")[:, :TOP]
            best, where = np.take_along_axis(best, order, 1), np.take_along_axis(where, order, 1)
        self._best, self._places = best, where
        self._by_class(start, stop, scores)
        bins = np.clip(((scores + 1) * (BINS / 2)).astype(np.int64), 0, BINS - 1)
        for number, own in enumerate(self._right):
            here = own[np.searchsorted(own, start) : np.searchsorted(own, stop)] - start
            if len(here):
                self.hits[number].append(scores[number, here])
            label = self._label_of.get(self._wanted[number])
            if label is not None:
                there = scores[number] > -2
                self._of_all[label] += np.bincount(bins[number][there], minlength=BINS)
                self._of_right[label] += np.bincount(bins[number, here], minlength=BINS)

    def _by_class(self, start: int, stop: int, scores: Vectors) -> None:
        numbers = self._class_of[start:stop]
        order = np.argsort(numbers, kind="stable")
        order = order[numbers[order] >= 0]
        if len(order):
            found, begins = np.unique(numbers[order], return_index=True)
            most = np.maximum.reduceat(scores[:, order], begins, axis=1)
            self.class_best[:, found] = np.maximum(self.class_best[:, found], most)

    def nearest(self) -> list[tuple[list[int], list[float]]]:
        order = np.argsort(-self._best, axis=1, kind="stable")
        best, where = np.take_along_axis(self._best, order, 1), np.take_along_axis(self._places, order, 1)
        return [
            (places[scores > -2].tolist(), scores[scores > -2].tolist())
            for places, scores in zip(where, best, strict=True)
        ]

    def pairs(self) -> Pairs:
        return Pairs(self._labels, self._of_right, self._of_all - self._of_right)


def _count(scores: Vectors, own: Vectors, above: npt.NDArray[np.float64]) -> None:
    """Adds to `above` how many of scores are larger than each of own (increasing); equal ones count half."""
    ordered = np.sort(scores)
    more = len(ordered) - np.searchsorted(ordered, own, side="right")
    as_much = np.searchsorted(ordered, own, side="right") - np.searchsorted(ordered, own, side="left")
    above += more + as_much / 2


def _judged(
    own: Vectors,
    above: npt.NDArray[np.float64],
    nearest: tuple[list[int], list[float]],
    right: Places,
    same: int,
) -> Judged:
    places, scores = nearest
    known = set(right.tolist())
    hits = tuple(place in known for place in places)
    average, first = 0.0, None
    if len(own):
        # Of right items with equal scores each stands half before the others; so does each before equal wrong ones.
        more = len(own) - np.searchsorted(own, own, side="right")
        as_much = np.searchsorted(own, own, side="right") - np.searchsorted(own, own, side="left")
        before = more + as_much / 2
        wrong = np.maximum(0, above - before)
        found = before + 0.5
        average = float((found / (found + wrong)).mean())
        first = hits.index(True) + 1 if any(hits) else max(TOP, int(wrong.min())) + 1
    return Judged(len(own), first, average, hits, tuple(places), tuple(scores), same)
