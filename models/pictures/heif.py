"""Heif: HEIC and AVIF, accepted only where the extra `heif` is installed; nothing is registered globally for them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.util import find_spec
from typing import cast

from PIL import Image, features

from models.errors import UnsupportedImage
from models.pictures.limits import Header

KINDS = {"heif": "HEIC", "avif": "AVIF"}


@dataclass(frozen=True, slots=True)
class Heif:
    """image: open, its pixels not decoded yet. Its own turns and mirrors are carried out by the decoder."""

    header: Header
    image: Image.Image

    @property
    def exif(self) -> bytes:
        found = self.image.info.get("exif")
        return found if isinstance(found, bytes) else b""

    @property
    def profile(self) -> bytes:
        found = self.image.info.get("icc_profile")
        return found if isinstance(found, bytes) else b""

    def load(self, size: tuple[int, int]) -> Image.Image:
        """The first picture, always at full size. Raises what the decoder does."""
        self.image.load()
        return self.image


def parse(data: memoryview, kind: str) -> Heif:
    """Raises UnsupportedImage without the extra, and what the decoder does."""
    if find_spec("pillow_heif") is None or (kind == "avif" and not features.check("avif")):
        raise UnsupportedImage(
            f"{KINDS[kind]} is not accepted here: send JPEG, PNG or WebP, or install the extra `heif`"
        )
    if kind == "avif":
        image: Image.Image = Image.open(io.BytesIO(data), formats=["AVIF"])
    else:
        from pillow_heif import HeifImageFile

        image = cast(Image.Image, HeifImageFile(io.BytesIO(data)))
    return Heif(Header(kind, *image.size, frames=getattr(image, "n_frames", 1)), image)
