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
    """flags: where the flags of the extended header are; 0 where there is none."""

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


def size_of(data: memoryview) -> tuple[int, int]:
    """Width and height from the first chunk. Raises UndecodableImage, struct.error."""
    kind = bytes(data[12:16])
    if kind == b"VP8X":
        return 1 + _uint24(data, 24), 1 + _uint24(data, 27)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise UndecodableImage("the WebP is damaged: it has no frame")


def parse(data: memoryview) -> Webp:
    """Raises UndecodableImage where the file is shorter than it says or has no frame."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise UndecodableImage("the WebP is cut short")
    flags = frames = 0
    exif = profile = b""
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        body = position + 8
        if kind == b"VP8X":
            flags = body
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            exif = bytes(data[body : body + length])
        elif kind == b"ICCP":
            profile = bytes(data[body : body + length])
        position = body + length + (length & 1)
    return Webp(Header("webp", *size_of(data), max(1, frames)), data, flags, frames > 0, exif, profile)


def _uint24(data: memoryview, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")
