"""The arrays that this room takes and returns: rows are vectors, labels are positions or keys, never ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Half = npt.NDArray[np.float16]
Stored = npt.NDArray[Any]  # float16 or float32, little-endian, (n, dim)
Keys = npt.NDArray[np.int64]  # of a collection: positive, in the order of commit
Rows = npt.NDArray[np.int64]  # positions in a vector file, from 0
Bits = npt.NDArray[np.uint8]  # one bit per row, the least significant first
