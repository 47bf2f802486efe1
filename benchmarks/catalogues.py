"""Hard catalogues: generators of vectors that differ in kind, so that no search can be fitted to one of them.

Each yields unit rows that are the same for the same seed; what a catalogue is made of (axes, prototypes, sizes of its
clusters) depends on `SHAPE` alone, so that rows of another seed are queries like the catalogue and never in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.vectors import Floats, normalised

SHAPE = 11
BLOCK = 8_192

Draw = Callable[[np.random.Generator, int, int], Floats]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A kind of catalogue. make(shape, dim) draws what all its rows share and returns how n of them are drawn.

    late: share of the rows, the last ones, that come after the index was trained; they are drawn with `late=True`.
    """

    name: str
    why: str
    dim: int
    make: Callable[[np.random.Generator, int], Draw]
    late: float = 0.0
    make_late: Callable[[np.random.Generator, int], Draw] | None = None

    def rows(self, count: int, *, seed: int) -> Iterator[Floats]:
        """Blocks of float32 unit rows (n, dim), `count` in all."""
        random = np.random.default_rng([SHAPE, seed])
        early = self.make(np.random.default_rng(SHAPE), self.dim)
        after = self.make_late(np.random.default_rng(SHAPE + 1), self.dim) if self.make_late else early
        turn = count - round(count * self.late)
        for start, stop, draw in ((0, turn, early), (turn, count, after)):
            for first in range(start, stop, BLOCK):
                yield normalised(draw(random, min(BLOCK, stop - first), self.dim))

    def queries(self, count: int, *, seed: int = 1_000_003) -> Floats:
        """float32 (count, dim), unit rows like the catalogue's, in it with probability zero."""
        return np.concatenate(list(self.rows(count, seed=seed)))


def _low_rank(shape: np.random.Generator, dim: int) -> Draw:
    axes = shape.standard_normal((24, dim), dtype=np.float32)

    def draw(random: np.random.Generator, n: int, dim: int) -> Floats:
        rows: Floats = random.standard_normal((n, len(axes)), dtype=np.float32) @ axes
        return rows + 0.05 * random.standard_normal((n, dim), dtype=np.float32)

    return draw


def _wide(shape: np.random.Generator, dim: int) -> Draw:
    """Prototypes with heavy tails under noise that multiplies every dimension: nearly full rank."""
    prototypes = np.abs(shape.standard_t(3, (2_000, dim)).astype(np.float32))

    def draw(random: np.random.Generator, n: int, dim: int) -> Floats:
        noise = np.exp(0.6 * random.standard_normal((n, dim), dtype=np.float32))
        rows: Floats = prototypes[random.integers(0, len(prototypes), n)] * noise
        return rows

    return draw


def _heavy_tails(shape: np.random.Generator, dim: int) -> Draw:
    rank = min(256, dim)
    axes = shape.standard_normal((rank, dim), dtype=np.float32) * ((np.arange(rank) + 1.0) ** -0.5)[:, None]
    centres = shape.standard_t(2.5, (400, rank)).astype(np.float32)

    def draw(random: np.random.Generator, n: int, dim: int) -> Floats:
        own = random.standard_t(2.5, (n, rank)).astype(np.float32)
        rows: Floats = (centres[random.integers(0, len(centres), n)] + 0.5 * own).astype(np.float32) @ axes
        return np.maximum(rows + 0.3 * random.standard_normal((n, dim), dtype=np.float32), 0)

    return draw


def _clustered(shape: np.random.Generator, dim: int, *, clusters: int, skew: float, spread: float) -> Draw:
    rank = min(128, dim)
    axes = shape.standard_normal((rank, dim), dtype=np.float32) / dim**0.5
    centres = shape.standard_normal((clusters, dim), dtype=np.float32) / dim**0.5
    share = (np.arange(clusters) + 1.0) ** -skew
    share /= share.sum()

    def draw(random: np.random.Generator, n: int, dim: int) -> Floats:
        own = random.standard_normal((n, rank), dtype=np.float32) @ axes / rank**0.5
        little = random.standard_normal((n, dim), dtype=np.float32) / dim**0.5
        rows: Floats = centres[random.choice(clusters, n, p=share)] + spread * own + 0.3 * spread * little
        return rows

    return draw


def _even(shape: np.random.Generator, dim: int) -> Draw:
    return _clustered(shape, dim, clusters=1_000, skew=0.0, spread=0.8)


def _lopsided(shape: np.random.Generator, dim: int) -> Draw:
    """A few clusters hold most of the rows, thousands hold one or two each."""
    return _clustered(shape, dim, clusters=5_000, skew=1.2, spread=0.6)


def _arrivals(shape: np.random.Generator, dim: int) -> Draw:
    """Rows of a kind that training has not seen: clusters of their own."""
    return _clustered(shape, dim, clusters=3, skew=0.0, spread=0.7)


def _repeated(shape: np.random.Generator, dim: int) -> Draw:
    """Every fifth row is one of 40 pictures that a shop has thousands of times (a logo, "no picture")."""
    usual = _even(shape, dim)
    again = shape.standard_normal((40, dim), dtype=np.float32)

    def draw(random: np.random.Generator, n: int, dim: int) -> Floats:
        rows = normalised(usual(random, n, dim))
        same = random.random(n) < 0.2
        rows[same] = normalised(again)[random.integers(0, len(again), int(same.sum()))]
        return rows

    return draw


CATALOGUES = (
    Catalogue("low rank", "24 directions and a little noise", 2048, _low_rank),
    Catalogue("nearly full rank", "noise in every dimension: 256 axes hold a third of the variance", 2048, _wide),
    Catalogue("heavy tails", "Student's t with 2.5 degrees of freedom, clipped at zero", 2048, _heavy_tails),
    Catalogue("duplicates", "a fifth of the rows are 40 pictures, thousands of times each", 2048, _repeated),
    Catalogue("lopsided", "few huge and thousands of tiny clusters", 2048, _lopsided),
    Catalogue("late cluster", "a tenth of the rows, a new kind, comes after training", 2048, _even, 0.1, _arrivals),
    Catalogue("128 dimensions", "even clusters, signed", 128, _even),
    Catalogue("512 dimensions", "even clusters, signed", 512, _even),
    Catalogue("4,096 dimensions", "even clusters, signed", 4096, _even),
)
