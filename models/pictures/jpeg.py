"""A JPEG that ends early is refused even where somebody has put an end mark behind what is left.

libjpeg fills what is missing with grey and only warns, and Pillow does not pass the warning on.
"""

from __future__ import annotations

import io
import re
import struct

from PIL import Image, ImageChops

from models.errors import UndecodableImage

_END = b"\xff\xd9"
# In the entropy-coded data FF is followed by 00 or by a restart marker; everything else is structure.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_GREY = 128
_MORE = b"\x5a\xa5" * 2048


def check_end(data: bytes | memoryview, decoded: Image.Image, draft: tuple[int, int]) -> None:
    """Raises UndecodableImage where the data did not last to the last pixel.

    decoded: the picture as loaded; draft: the size asked for then. A sequential picture whose last pixel has the grey
    of missing data is decoded once more with further data before its end: if that changes it, it was not complete. A
    progressive one must have brought its brightness to full precision.
    """
    if decoded.info.get("progressive"):
        if not _all_scans(bytes(data)):
            raise UndecodableImage("the JPEG is cut short: scans are missing")
        return
    last = decoded.getpixel((decoded.width - 1, decoded.height - 1))
    levels = last if isinstance(last, tuple) else (last,)
    if any(level is None or abs(level - _GREY) > 1 for level in levels):
        return
    whole = bytes(data)
    end = whole.rfind(_END)
    with Image.open(io.BytesIO(whole[:end] + _MORE + whole[end:]), formats=["JPEG"]) as longer:
        longer.draft(None, draft)
        longer.load()
        if ImageChops.difference(decoded, longer).getbbox() is not None:
            raise UndecodableImage("the JPEG is cut short: its last rows are missing")


def _all_scans(data: bytes) -> bool:
    """Whether a progressive picture gives its first component, brightness, all 64 coefficients down to the last bit."""
    brightness = -1
    got: set[int] = set()
    position = 2
    while (found := _MARKER.search(data, position)) is not None:
        position = found.start()
        marker = data[position + 1]
        if marker == 0xD9:
            break
        if marker == 0x01:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        body = data[position + 4 : position + 2 + length]
        if marker in (0xC2, 0xCA) and brightness < 0:
            brightness = body[6]
        elif marker == 0xDA:
            count = body[0]
            first, last, bits = body[1 + 2 * count : 4 + 2 * count]
            if bits & 15 == 0 and brightness in list(body[1 : 1 + 2 * count : 2]):
                got.update(range(first, last + 1))
        position += 2 + length
    return len(got) == 64
