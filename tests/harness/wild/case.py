"""Wild: a picture in a form that people really have: odd, damaged or cut short; with the plain picture it shows."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wild:
    """One file. kind: "jpeg", "png", "webp"; plain: an ordinary file of the same picture, as PNG, JPEG or WebP.

    browser: whether Chromium shows the whole of it as others do.
    """

    name: str
    kind: str
    data: bytes
    plain: bytes
    browser: bool = True

    def __str__(self) -> str:
        return self.name


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def scene(width: int = 320, height: int = 240) -> Image.Image:
    """Soft colours and a few shapes, different in all four corners."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    image = Image.fromarray(np.stack([across, down, (across + down) / 2], axis=2).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    pen.ellipse((width // 8, height // 6, width // 2, height // 2), fill=(220, 30, 40))
    pen.rectangle((width // 2, height // 2, width * 7 // 8, height * 2 // 3), fill=(20, 60, 200))
    pen.polygon(
        [(width // 10, height * 9 // 10), (width // 3, height * 9 // 10), (width // 5, height * 6 // 10)],
        fill=(10, 200, 60),
    )
    return image


def on_white(shape: Image.Image, place: tuple[int, int], canvas: tuple[int, int] = (320, 240)) -> Image.Image:
    white = Image.new("RGB", canvas, "white")
    white.paste(shape, place)
    return white


def exif(orientation: int, order: str = "<") -> bytes:
    """A TIFF block with an orientation and nothing else."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def xmp(orientation: int) -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
        % orientation
    )


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
