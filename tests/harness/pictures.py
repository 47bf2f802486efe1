"""Pictures made on the spot, for tests that need no photograph."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def pixels(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A smooth random picture; another seed, another picture."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def jpeg(seed: int, size: tuple[int, int] = (320, 240)) -> bytes:
    return encoded(pixels(seed, size), quality=88)


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is width × height."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def animated_webp(frames: int, size: tuple[int, int] = (64, 48)) -> bytes:
    first, *rest = [pixels(seed, size) for seed in range(frames)]
    return encoded(first, "WEBP", save_all=True, append_images=rest, duration=100, quality=50)
