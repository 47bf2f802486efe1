"""Colour: pixels of an embedded ICC profile as the sRGB that browsers show; a broken profile is ignored.

Most profiles that come are sRGB under another name: that a profile moves no colour by more than rounding is found out
once, and remembered.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# ICC's name of a colour space by Pillow's mode; it is in byte 16 of a profile, the magic number in byte 36.
_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}
_SPACE, _MAGIC = slice(16, 20), slice(36, 40)
_SMALLEST, _LARGEST = 132, 4 << 20
# Of 255: profiles of sRGB differ by so much in the rounding of their curves.
_SAME = 2
_GRID = np.array((0, 20, 50, 90, 140, 200, 255), np.uint8)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An L, RGB or CMYK picture as RGB. profile: empty, or an ICC profile; one of another colour space is ignored."""
    if not _SMALLEST <= len(profile) <= _LARGEST or profile[_MAGIC] != b"acsp":
        return image.convert("RGB")
    if image.mode == "L" and profile[_SPACE] == _SPACES["RGB"]:
        image = image.convert("RGB")
    transform = _transform(image.mode, profile) if profile[_SPACE] == _SPACES[image.mode] else None
    if transform is None:
        return image.convert("RGB")
    shown = Image.new("RGB", image.size)
    transform.apply(image, shown)
    shown.info.clear()
    return shown


def layer_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An RGBA picture in the same way. A profile for grey belongs to a picture whose channels are alike."""
    grey = profile[_SPACE] == _SPACES["L"]
    shown = to_srgb(image.getchannel("R") if grey else image.convert("RGB"), profile)
    shown.putalpha(image.getchannel("A"))
    return shown


def palette_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """A P picture with other colours in its palette, before they are mixed."""
    colours = image.getpalette("RGB") or []
    palette = Image.frombytes("RGB", (len(colours) // 3, 1), bytes(colours))
    shown = image.copy()
    shown.putpalette(to_srgb(palette, profile).tobytes(), "RGB")
    return shown


@lru_cache(maxsize=16)
def _transform(mode: str, profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """None for a profile that changes nothing, or cannot be used."""
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.ImageCmsTransform(source, target, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    axes = np.meshgrid(*[_GRID] * Image.getmodebands(mode), indexing="ij")
    colours = Image.frombytes(mode, (axes[0].size, 1), np.stack(axes, axis=-1).tobytes())
    shown = Image.new("RGB", colours.size)
    transform.apply(colours, shown)
    return bool(np.abs(np.asarray(colours.convert("RGB")).astype(np.int16) - np.asarray(shown)).max() <= _SAME)
