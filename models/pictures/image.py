"""Bytes to pixels, the same way for gallery and query: by content, upright, resized by a Preprocessing.

Whatever is wrong with the bytes becomes an ImageError; limits are checked before a pixel is decoded. This module runs
in worker processes and imports no library but Pillow and numpy. Pixels without a
colour profile count as sRGB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.errors import ImageError, ImageTooLarge, UndecodableImage
from models.pictures.colour import layer_to_srgb, palette_to_srgb, to_srgb
from models.pictures.content import is_plain
from models.pictures.exif import orientation
from models.pictures.header import parse, sniff
from models.pictures.limits import Limits, Parsed, check_limits
from models.preprocessing import PAD_COLOUR, Preprocessing, Rule

# A change of what follows that moves vectors needs another `preprocessing.VERSION`: the old ones cannot be compared.

THUMBNAIL_SIDE = 256

# libjpeg may shrink by 2, 4 or 8 while decoding, as long as this many pixels are left for each one of the target. So a
# photograph of 12 megapixels (short side 3,000 for 256) goes by 8 and stays at a median cosine of .9987 to the full
# decode; a ratio of 1 would give .996.
_DRAFT = 368 / 256
# What is left is averaged down in boxes to no less than this many times the target, then resampled.
_GAP = 2
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_THUMBNAIL_FILTER = Image.Resampling.BILINEAR
_THUMBNAIL_QUALITY = 60

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[float, float, float, float]
_PLAIN = Preprocessing()
_LIMITS = Limits()
_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Decoded:
    """pixels: uint8 (side, side, 3), RGB. width, height: of the upright picture. format: "jpeg", "png", "webp", …

    thumbnail: WebP, upright, longest side 256 (never enlarged); None where none was asked for. plain: the pixels show
    one colour and almost nothing else, so that a vector of them means nothing.
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    format: str
    thumbnail: bytes | None
    plain: bool


def decode(
    data: bytes | memoryview,
    limits: Limits = _LIMITS,
    *,
    preprocessing: Preprocessing = _PLAIN,
    crop: Box | None = None,
    thumbnail: bool = False,
) -> Decoded:
    """Decodes one uploaded picture; of an animation the first frame.

    preprocessing: what the network takes. crop: left, top, right, bottom of the part that counts, each 0…1 of the
    upright picture. The thumbnail always shows the whole picture, and asking for one changes no pixel. Raises
    UnsupportedImage, UndecodableImage, ImageTooLarge, and ValueError for a crop without area.
    """
    if crop is not None and not (0 <= crop[0] < crop[2] <= 1 and 0 <= crop[1] < crop[3] <= 1):
        raise ValueError("crop must be left,top,right,bottom with 0 <= left < right <= 1 and 0 <= top < bottom <= 1")
    kind = sniff(data)
    try:
        picture = parse(data)
        check_limits(picture.header, limits)  # before Pillow, which takes memory for the canvas as it opens
        return _decode(picture, preprocessing, crop or _WHOLE, thumbnail)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageTooLarge("the picture needs more memory than a decoder may use: send a smaller one") from error
    except Exception as error:  # what a decoder raises on damaged bytes has no end: OSError, SyntaxError, struct.error…
        raise UndecodableImage(f"the {kind.upper()} is damaged or cut short") from error


def _decode(picture: Parsed, preprocessing: Preprocessing, crop: Box, thumbnail: bool) -> Decoded:
    header = picture.header
    turn = orientation(picture.exif)
    region = _as_stored(crop, turn)
    short = preprocessing.short_side
    least = max(short, THUMBNAIL_SIDE) * _DRAFT
    sides = (region[2] - region[0]) * header.width, (region[3] - region[1]) * header.height
    spans = _spans(preprocessing.rule, *sides)
    shrink = next((by for by in (8, 4, 2) if min(spans) >= by * least), 1)
    size = header.width // shrink, header.height // shrink
    image, profile = picture.load(size), picture.profile
    if image.mode == "P" and profile:
        image, profile = palette_to_srgb(image, profile), b""
    image = reduced = _resizable(image)
    across, down = (max(1, int(span * image.width / header.width / (_GAP * short))) for span in spans)
    if crop != _WHOLE:
        reduced = image.crop(_pixels_of(region, image.size))
    if across > 1 or down > 1:
        reduced = reduced.reduce((across, down))
    fitted = _fitted(reduced, preprocessing, turn, profile)
    small = None
    if thumbnail:
        alike = crop == _WHOLE and across == down and _GAP * short >= THUMBNAIL_SIDE
        small = _thumbnail(reduced if alike else image, turn, profile)
    upright = (header.height, header.width) if turn in (5, 6, 7, 8) else (header.width, header.height)
    pixels = np.asarray(_padded(fitted, preprocessing.side))
    return Decoded(pixels, *upright, header.kind, small, is_plain(fitted))


def _spans(rule: Rule, width: float, height: float) -> tuple[float, float]:
    """How much of the picture becomes the frame's `short_side`, across and down."""
    if rule == "squash":
        return width, height
    span = min(width, height) if rule == "crop" else max(width, height)
    return span, span


def _fitted(image: Image.Image, preprocessing: Preprocessing, turn: int, profile: bytes) -> Image.Image:
    """The upright picture as RGB, at most side × side; samples the middle itself, so that no long strip is blown up."""
    side, short = preprocessing.side, preprocessing.short_side
    spans = _spans(preprocessing.rule, *image.size)
    middle = image.width / 2, image.height / 2
    halves = [min(span * side / short, 2 * half) / 2 for span, half in zip(spans, middle, strict=True)]
    box = (middle[0] - halves[0], middle[1] - halves[1], middle[0] + halves[0], middle[1] + halves[1])
    size = [max(1, min(side, round(2 * half * short / span))) for half, span in zip(halves, spans, strict=True)]
    return _turned(_opaque(image.resize((size[0], size[1]), _FILTERS[preprocessing.filter], box), profile), turn)


def _padded(fitted: Image.Image, side: int) -> Image.Image:
    if fitted.size == (side, side):
        return fitted
    frame = Image.new("RGB", (side, side), PAD_COLOUR)
    frame.paste(fitted, ((side - fitted.width) // 2, (side - fitted.height) // 2))
    return frame


def _pixels_of(region: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box in 0…1 as whole pixels, at least one each way."""
    left, top = (min(round(region[i] * size[i]), size[i] - 1) for i in (0, 1))
    right, bottom = (round(region[i + 2] * size[i]) for i in (0, 1))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _thumbnail(image: Image.Image, turn: int, profile: bytes) -> bytes:
    longest = max(image.size)
    if longest > THUMBNAIL_SIDE:
        width, height = (max(1, round(side * THUMBNAIL_SIDE / longest)) for side in image.size)
        image = image.resize((width, height), _THUMBNAIL_FILTER, reducing_gap=_GAP)
    target = io.BytesIO()
    _turned(_opaque(image, profile), turn).save(target, "WEBP", quality=_THUMBNAIL_QUALITY, method=0)
    return target.getvalue()


def _turned(image: Image.Image, turn: int) -> Image.Image:
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def _as_stored(box: Box, turn: int) -> Box:
    """A box of the upright picture in the coordinates of the stored one."""

    def point(u: float, v: float) -> tuple[float, float]:
        if turn in (5, 6, 7, 8):
            u, v = v, u
        return (1 - u if turn in (2, 3, 7, 8) else u), (1 - v if turn in (3, 4, 6, 7) else v)

    (left, top), (right, bottom) = point(box[0], box[1]), point(box[2], box[3])
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def _resizable(image: Image.Image) -> Image.Image:
    """The same picture in a mode that averages correctly: L, RGB, CMYK, or RGBa (alpha multiplied in)."""
    if image.mode.startswith("I"):  # 16 bits of grey: the upper 8 count, a transparent level does not
        return Image.fromarray((np.asarray(image).astype(np.int32) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA").convert("RGBa")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _opaque(image: Image.Image, profile: bytes) -> Image.Image:
    """Any mode of `_resizable` to RGB as the profile means it, transparency on white."""
    if image.mode != "RGBa":
        return to_srgb(image, profile)
    clear = image.convert("RGBA")
    colours = layer_to_srgb(clear, profile) if profile else clear
    return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
