"""Colour: pixels of an embedded ICC profile as the sRGB that browsers show; a broken profile is ignored.

Most profiles that come are sRGB under another name: that a profile moves no colour by more than rounding is found out
once, and remembered.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# ICC's name of a colour space by Pillow's mode; it stands in byte 16 of a profile, the magic number in byte 36.
_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}
_SPACE, _MAGIC = slice(16, 20), slice(36, 40)
_SMALLEST, _LARGEST = 132, 4 << 20
# Of 255: profiles of sRGB differ by so much in the rounding of their curves.
_SAME = 2
_GRID = np.array((0, 16, 32, 64, 96, 128, 160, 192, 224, 255), np.uint8)


def is_grey(profile: bytes) -> bool:
    return profile[_SPACE] == _SPACES["L"]


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An L, RGB or CMYK picture as RGB. profile: empty, or an ICC profile; one of another colour space is ignored."""
    transform = None
    if _SMALLEST <= len(profile) <= _LARGEST and profile[_MAGIC] == b"acsp" and profile[_SPACE] == _SPACES[image.mode]:
        transform = _transform(image.mode, profile)
    if transform is None:
        return image.convert("RGB")
    shown = Image.new("RGB", image.size)
    transform.apply(image, shown)
    shown.info.clear()
    return shown


@lru_cache(maxsize=16)
def _transform(mode: str, profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """None for a profile that changes nothing, or cannot be used."""
    colours = _colours(mode)
    shown = Image.new("RGB", colours.size)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(source, target, mode, "RGB")
        transform.apply(colours, shown)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    moved = np.abs(np.asarray(colours.convert("RGB")).astype(np.int16) - np.asarray(shown))
    return None if moved.max() <= _SAME else transform


def _colours(mode: str) -> Image.Image:
    """Colours from all over a mode, in one row."""
    axes = np.meshgrid(*[_GRID] * Image.getmodebands(mode), indexing="ij")
    flat = np.stack([axis.ravel() for axis in axes], axis=1)
    return Image.frombytes(mode, (len(flat), 1), flat.tobytes())
