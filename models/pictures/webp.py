"""Webp: what the chunks of a WebP say, and its first frame as browsers show it."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from PIL import Image

from models.errors import UndecodableImage
from models.pictures.limits import Header

_MAX_CHUNKS = 100_000
_ALPHA = 0x10


@dataclass(frozen=True, slots=True)
class Webp:
    """flags: where the flags of the extended header stand; 0 where there is none."""

    header: Header
    data: memoryview
    flags: int
    animated: bool
    exif: bytes
    profile: bytes

    def load(self, size: tuple[int, int]) -> Image.Image:
        """The first frame, always at full size. Raises UndecodableImage and what Pillow does."""
        data = bytearray(self.data)
        if self.animated and self.flags:
            # Without this flag the canvas around a frame that is smaller would come out black.
            data[self.flags] |= _ALPHA
        image = Image.open(io.BytesIO(data), formats=["WEBP"])
        if image.size != (self.header.width, self.header.height):
            raise UndecodableImage("the WebP is damaged: it has two sizes")
        image.load()
        return image


def parse(data: memoryview) -> Webp:
    """Raises UndecodableImage where the file is shorter than it says or has no frame."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise UndecodableImage("the WebP is cut short")
    size: tuple[int, int] | None = None
    flags = frames = 0
    exif = profile = b""
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        body = position + 8
        if kind == b"VP8X":
            size = 1 + _uint24(data, body + 4), 1 + _uint24(data, body + 7)
            flags = body
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            exif = bytes(data[body : body + length])
        elif kind == b"ICCP":
            profile = bytes(data[body : body + length])
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", data, body + 6)
            size = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L" and size is None:
            bits = struct.unpack_from("<I", data, body + 1)[0]
            size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        position = body + length + (length & 1)
    if size is None:
        raise UndecodableImage("the WebP is damaged: it has no frame")
    return Webp(Header("webp", *size, max(1, frames)), data, flags, frames > 0, exif, profile)


def _uint24(data: memoryview, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")
