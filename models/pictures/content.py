"""Content: whether pixels show anything, or one colour and almost nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# All but a hundredth of the pixels lie within this many of 256 levels in each channel. Of 3,998 photographs of shops,
# clothes and other things the nearest has 62; grain of a deviation of 10 levels has 27, a line of text on white 0.
_SPREAD = 40
_RARE = 0.005


def is_plain(pixels: npt.NDArray[np.uint8]) -> bool:
    """pixels: uint8 (height, width, 3)."""
    few = np.sort(pixels[::8, ::8].reshape(-1, 3), axis=0)
    tenth = len(few) // 10
    if (few[-1 - tenth].astype(np.int16) - few[tenth]).max() > _SPREAD:
        return False  # so it is with all but a few pictures
    every = np.sort(pixels.reshape(-1, 3), axis=0)
    rare = int(_RARE * len(every))
    return bool((every[-1 - rare].astype(np.int16) - every[rare]).max() <= _SPREAD)
