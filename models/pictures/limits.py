"""Limits: what a picture may cost, judged by its Header before a pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from models.errors import ImageTooLarge

# A progressive JPEG goes over all its pixels once per scan, half a nanosecond for each even where a scan brings
# nothing. Encoders write up to 17 scans; this many of them are allowed of the largest picture, more of smaller ones.
MAX_SCANS = 20


@dataclass(frozen=True, slots=True)
class Header:
    """kind: "jpeg", "png", "webp", "heif", "avif". width, height: pixels as stored, at least 1. frames: at least 1.

    scans: how often a decoder goes over all pixels, at least 1.
    """

    kind: str
    width: int
    height: int
    frames: int = 1
    scans: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """max_pixels: of all frames together; of all scans, MAX_SCANS times as many. max_side: longest side in pixels."""

    max_pixels: int = 64_000_000
    max_side: int = 16_384


class Parsed(Protocol):
    """A picture whose structure is read and whose pixels are not.

    exif: a TIFF block, profile: an ICC profile; both as found, empty where there is none.
    """

    @property
    def header(self) -> Header: ...
    @property
    def exif(self) -> bytes: ...
    @property
    def profile(self) -> bytes: ...

    def load(self, size: tuple[int, int]) -> Image.Image:
        """The stored pixels; where the kind can shrink while it decodes, down to `size`, not below.

        Raises UndecodableImage where the data do not hold all pixels, and whatever the decoder raises.
        """
        ...


def check_limits(header: Header, limits: Limits) -> None:
    """Raises ImageTooLarge."""
    width, height, frames = header.width, header.height, header.frames
    if max(width, height) > limits.max_side:
        raise ImageTooLarge(f"the picture is {width} × {height}, its longest side may be {limits.max_side}")
    if width * height * frames > limits.max_pixels:
        what = f"{width} × {height}" + (f" in {frames} frames" if frames > 1 else "")
        raise ImageTooLarge(f"the picture has {what}, more than {limits.max_pixels:,} pixels")
    if width * height * header.scans > limits.max_pixels * MAX_SCANS:
        what = f"{width} × {height} in {header.scans} scans"
        raise ImageTooLarge(f"the picture has {what}, more than decoding may take: save it with fewer scans")
