"""What a file says about itself, read before any pixel is decoded and without trusting its name.

Sizes and frame counts come from here, so that a picture over the limits costs a few reads and no memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from models.errors import UndecodableImage, UnsupportedImage
from models.pictures import png

ACCEPTED = "JPEG, PNG or WebP"

# Pictures and documents that people send by mistake: named in the answer, so that they know what to convert.
_FOREIGN = (
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
    (b"%PDF", "PDF"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "ICO"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"PK\3\4", "ZIP"),
)
_HEIF_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "heif"),
    **dict.fromkeys((b"avif", b"avis"), "avif"),
}
# Frame headers of JPEG: all SOFn but DHT (C4), JPG (C8) and DAC (CC).
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, RST0 to RST7.
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
_MAX_CHUNKS = 100_000


@dataclass(frozen=True, slots=True)
class Header:
    """kind: "jpeg", "png", "webp", "heif", "avif". width, height: pixels as stored, at least 1. frames: at least 1."""

    kind: str
    width: int
    height: int
    frames: int = 1


def sniff(data: bytes | memoryview) -> str:
    """The kind of picture by its first bytes. Raises UnsupportedImage for anything that is none of them."""
    start = bytes(data[:512])
    if start.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if start.startswith(png.SIGNATURE):
        return "png"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "webp"
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        return _HEIF_BRANDS[start[8:12]]
    if not start:
        raise UnsupportedImage(f"the upload is empty: send {ACCEPTED}")
    for magic, name in _FOREIGN:
        if start.startswith(magic):
            raise UnsupportedImage(f"{name} is not accepted: send {ACCEPTED}")
    if b"<svg" in start.lower():
        raise UnsupportedImage(f"SVG is not accepted: send {ACCEPTED}")
    raise UnsupportedImage(f"this is not a picture: send {ACCEPTED}")


def read_header(data: bytes | memoryview) -> Header:
    """Size and frame count of a JPEG, PNG or WebP. Raises UnsupportedImage and UndecodableImage.

    The frames of a JPEG are one: what a camera appends (previews, gain maps) is never decoded.
    """
    kind = sniff(data)
    readers = {"jpeg": _jpeg, "png": _png, "webp": _webp}
    if kind not in readers:
        raise UnsupportedImage(f"{kind.upper()} is not accepted: send {ACCEPTED}")
    try:
        header = readers[kind](memoryview(data))
    except (struct.error, IndexError) as error:
        raise UndecodableImage(f"the {kind.upper()} is cut short") from error
    if header.width < 1 or header.height < 1 or header.frames < 1:
        raise UndecodableImage(f"the {kind.upper()} has no pixels")
    return header


def _jpeg(data: memoryview) -> Header:
    position = 2
    for _ in range(_MAX_CHUNKS):
        if data[position] != 0xFF:
            raise UndecodableImage("the JPEG is damaged: a marker is missing")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _BARE:
            position += 2
        elif marker in _SOF:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return Header("jpeg", width, height)
        elif marker in (0xD9, 0xDA):
            break
        else:
            position += 2 + max(2, struct.unpack_from(">H", data, position + 2)[0])
    raise UndecodableImage("the JPEG is damaged: it has no frame header")


def _png(data: memoryview) -> Header:
    """Walks all chunks to the end mark: a file cut behind its last pixel is cut short as well."""
    width, height = struct.unpack_from(">II", data, 16)
    frames = 1
    for chunk in png.chunks(data):
        if chunk.kind == b"acTL":
            frames = struct.unpack_from(">I", data, chunk.body)[0]
    return Header("png", width, height, frames)


def _webp(data: memoryview) -> Header:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise UndecodableImage("the WebP is cut short")
    size: tuple[int, int] | None = None
    frames = 0
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        body = position + 8
        if kind == b"VP8X":
            size = 1 + _uint24(data, body + 4), 1 + _uint24(data, body + 7)
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", data, body + 6)
            size = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L" and size is None:
            bits = struct.unpack_from("<I", data, body + 1)[0]
            size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        position = body + length + (length & 1)
    if size is None:
        raise UndecodableImage("the WebP is damaged: it has no frame")
    return Header("webp", *size, max(1, frames))


def _uint24(data: memoryview, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")
