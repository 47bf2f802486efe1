"""HEIC and AVIF are accepted only where the extra `heif` is installed; nothing is registered globally for them."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import cast

from PIL import Image, features

from models.errors import UnsupportedImage
from models.pictures.header import ACCEPTED

KINDS = frozenset({"heif", "avif"})


def open_heif(data: bytes | memoryview, kind: str) -> Image.Image:
    """A picture whose size is known and whose pixels are not decoded yet. Raises UnsupportedImage without the extra."""
    if find_spec("pillow_heif") is None or (kind == "avif" and not features.check("avif")):
        name = "HEIC" if kind == "heif" else "AVIF"
        raise UnsupportedImage(f"{name} is not accepted here: send {ACCEPTED}, or install the extra `heif`")
    if kind == "avif":
        return Image.open(io.BytesIO(data), formats=["AVIF"])
    from pillow_heif import HeifImageFile

    return cast(Image.Image, HeifImageFile(io.BytesIO(data)))
