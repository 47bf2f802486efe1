"""Cosines of stored rows, on the calling thread: no pool of threads is woken for one query.

Rounding the query to float16 as well moves a cosine by 3e-5 at most, and lets one SIMD kernel do all.
"""

from __future__ import annotations

import numkong
import numpy as np

from index.embedded.ann.arrays import Floats, Half


def cosines(query: Floats, rows: Half) -> Floats:
    """float32 (m,) of a unit float32 (dim,) query with float16 (m, dim) unit rows."""
    half = numkong.astype(query[None], "f16")
    products = np.asarray(numkong.cdist(half, rows, "dot"))[0]
    rounded = np.asarray(half)[0]
    norm = float(numkong.dot(rounded, rounded))  # type: ignore[arg-type]  # not `cdist`, which would let go of Python's lock once more
    # Rounding shortens or stretches the query like the row that equals it: undone, a self-match cannot be off by both.
    scores: Floats = (products * norm**-0.5).astype(np.float32)
    return scores
