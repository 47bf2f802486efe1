"""The pictures that arrive: mixed sizes and kinds, photographs where they are at hand, made ones elsewhere."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

from PIL import Image

from tests.harness import photographs
from tests.harness.pictures import encoded, pixels

# (name, longest edge, format, share of the arrivals): what a shop's visitors send, thumbnails to telephone photographs.
KINDS = (
    ("200 px webp", 200, "WEBP", 0.15),
    ("400 px jpeg", 400, "JPEG", 0.35),
    ("800 px png", 800, "PNG", 0.10),
    ("1200 px jpeg", 1200, "JPEG", 0.25),
    ("4000 px jpeg", 4000, "JPEG", 0.15),
)
_TYPES = {"WEBP": "image/webp", "JPEG": "image/jpeg", "PNG": "image/png"}


@dataclass(frozen=True, slots=True)
class Picture:
    """kind: name in KINDS; media_type: of the bytes in data."""

    kind: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Pool:
    """photographs: whether they are; otherwise the pictures are made."""

    photographs: bool
    by_kind: dict[str, list[Picture]]

    def pick(self, rng: random.Random) -> Picture:
        kind = rng.choices([name for name, *_ in KINDS], [share for *_, share in KINDS])[0]
        return rng.choice(self.by_kind[kind])


def pool(each: int, *, made: bool = False) -> Pool:
    """each: pictures of every kind; made: made ones even where photographs are at hand."""
    real = not made and (photographs.folder() / "groceries" / "catalogue.csv").is_file()
    sources = [_source(number, real) for number in range(each)]
    by_kind = {
        name: [Picture(name, _TYPES[format], _in_size(source, edge, format)) for source in sources]
        for name, edge, format, _ in KINDS
    }
    return Pool(real, by_kind)


def _source(number: int, real: bool) -> Image.Image:
    if not real:
        return pixels(number, (1600, 1200))
    photos = photographs.split("groceries", "catalogue")
    with Image.open(io.BytesIO(photos[number * 37 % len(photos)].read())) as photo:
        return photo.convert("RGB")


def _in_size(source: Image.Image, edge: int, format: str) -> bytes:
    scale = edge / max(source.size)
    size = (max(1, round(source.width * scale)), max(1, round(source.height * scale)))
    # compress_level: only PNG knows it, and the others leave it alone.
    return encoded(source.resize(size, Image.Resampling.BILINEAR), format, quality=85, compress_level=3)
