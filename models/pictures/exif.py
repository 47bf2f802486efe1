"""EXIF: of all that a camera writes, the orientation alone, read so that nothing broken fails a picture.

What XMP says about orientation is ignored, as browsers do.
"""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112
_SHORT = 3
_PREFIX = b"Exif\0\0"


def orientation(block: bytes) -> int:
    """1 to 8 out of the first directory of a TIFF block, with or without "Exif" before it; 1 for anything else."""
    block = block.removeprefix(_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for index in range(count):
            tag, kind, number, value = struct.unpack_from(order + "HHIH", block, start + 2 + 12 * index)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and number == 1 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
