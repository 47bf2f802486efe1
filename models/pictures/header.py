"""What a file says about itself, read before any pixel is decoded and without trusting its name.

Sizes and frame counts come from here, so that a picture over the limits costs a few reads and no memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from models.errors import UndecodableImage, UnsupportedImage
from models.pictures import heif, jpeg, png, webp
from models.pictures.limits import Header, Parsed

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


_PARSERS: dict[str, Callable[[memoryview], Parsed]] = {"jpeg": jpeg.parse, "png": png.parse, "webp": webp.parse}


def parse(data: bytes | memoryview) -> Parsed:
    """The structure of any accepted picture, no pixel decoded. Raises UnsupportedImage and UndecodableImage.

    The frames of a JPEG are one: what a camera appends (previews, gain maps) is never decoded.
    """
    kind = sniff(data)
    view = memoryview(data)
    try:
        picture = heif.parse(view, kind) if kind in heif.KINDS else _PARSERS[kind](view)
    except (struct.error, IndexError) as error:
        raise UndecodableImage(f"the {kind.upper()} is cut short") from error
    header = picture.header
    if header.width < 1 or header.height < 1 or header.frames < 1:
        raise UndecodableImage(f"the {kind.upper()} has no pixels")
    return picture


def read_header(data: bytes | memoryview) -> Header:
    """Size, frames and scans. Raises UnsupportedImage and UndecodableImage."""
    return parse(data).header
