"""Decoding: the same pixels whatever the file's form, and nothing but an ImageError for bad bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.errors import ImageTooLarge, UndecodableImage, UnsupportedImage
from models.pictures.image import decode
from models.pictures.limits import Limits
from models.preprocessing import Preprocessing, Rule
from tests.conftest import Photos

KINDS = ("JPEG", "PNG", "WEBP")


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def scene(width: int = 320, height: int = 240) -> Image.Image:
    """Soft colours and a few shapes, different in all four corners."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    image = Image.fromarray(np.stack([across, down, (across + down) / 2], axis=2).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 4, height // 4, width // 2, height // 2), fill=(220, 30, 40))
    draw.rectangle((width // 2, height // 2, width * 3 // 4, height * 2 // 3), fill=(20, 60, 200))
    return image


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def shown(thumbnail: bytes | None) -> np.ndarray:
    assert thumbnail is not None
    return np.asarray(Image.open(io.BytesIO(thumbnail)).convert("RGB"))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", KINDS)
def test_every_accepted_kind_gives_the_same_pixels(kind: str) -> None:
    """The file's form does not matter beyond what its compression loses."""
    exact = decode(encode(scene(), "PNG")).pixels
    found = decode(encode(scene(), kind, quality=95))
    assert (found.format, found.width, found.height) == (kind.lower(), 320, 240)
    assert found.pixels.shape == (224, 224, 3)
    assert found.pixels.dtype == np.uint8
    assert difference(found.pixels, exact) < 2.5


def test_the_centre_is_what_resizing_and_cropping_gives() -> None:
    """Sampling the centre box directly equals the textbook order: short side to 256, then the centre 224."""
    image = scene(400, 300)
    textbook = image.resize((341, 256), Image.Resampling.BICUBIC)
    left, top = (341 - 224) // 2, (256 - 224) // 2
    expected = np.asarray(textbook.crop((left, top, left + 224, top + 224)))
    assert difference(decode(encode(image, "PNG")).pixels, expected) < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("crop", [None, (0.1, 0.25, 0.6, 0.9)])
def test_exif_orientation_is_applied(orientation: int, crop: tuple[float, float, float, float] | None) -> None:
    """A photograph stored turned or mirrored gives the pixels, size and thumbnail of the upright one."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    image = scene(320, 240)
    stored = image.transpose(undo[orientation]) if orientation in undo else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(encode(image, "PNG"), crop=crop, thumbnail=True)
    turned = decode(encode(stored, "PNG", exif=exif), crop=crop, thumbnail=True)
    assert (turned.width, turned.height) == (320, 240)
    assert (
        np.abs(turned.pixels.astype(int) - upright.pixels).max() <= 1
    )  # rows first or columns first rounds differently
    assert difference(shown(turned.thumbnail), shown(upright.thumbnail)) < 1


def test_an_orientation_that_does_not_exist_counts_as_upright() -> None:
    """A nonsense tag does not refuse the picture."""
    exif = Image.Exif()
    exif[0x0112] = 77
    assert np.array_equal(decode(encode(scene(), "PNG", exif=exif)).pixels, decode(encode(scene(), "PNG")).pixels)


def test_a_crop_equals_the_same_part_sent_as_a_picture() -> None:
    """crop takes fractions of the upright picture, and the rest has no influence."""
    image = scene(400, 400)
    part = image.crop((100, 40, 300, 360))
    found = decode(encode(image, "PNG"), crop=(0.25, 0.1, 0.75, 0.9))
    assert np.array_equal(found.pixels, decode(encode(part, "PNG")).pixels)
    assert (found.width, found.height) == (400, 400)


@pytest.mark.parametrize(
    "crop", [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.2), (-0.1, 0, 1, 1), (0, 0, 1.1, 1), (float("nan"), 0, 1, 1)]
)
def test_a_crop_without_area_is_a_value_error(crop: tuple[float, float, float, float]) -> None:
    """It is the caller's field that is wrong, not the picture."""
    with pytest.raises(ValueError, match="crop must be"):
        decode(encode(scene(), "PNG"), crop=crop)


def test_a_sliver_of_a_crop_still_has_a_pixel() -> None:
    """A crop thinner than one pixel is widened to one."""
    assert decode(encode(scene(), "PNG"), crop=(0.9999, 0.9999, 1.0, 1.0)).pixels.shape == (224, 224, 3)


def grey_modes() -> list[Any]:
    grey = scene().convert("L")
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    with_alpha = grey.convert("LA")
    return [
        pytest.param(grey, grey, id="L"),
        pytest.param(sixteen, grey, id="I;16"),
        pytest.param(with_alpha, grey, id="LA"),
        pytest.param(grey.convert("1"), grey.convert("1").convert("L"), id="1"),
        pytest.param(scene().convert("P"), scene().convert("P").convert("RGB"), id="P"),
        pytest.param(scene().convert("RGBA"), scene(), id="RGBA"),
    ]


@pytest.mark.parametrize(("image", "same"), grey_modes())
def test_modes_of_png(image: Image.Image, same: Image.Image) -> None:
    """Grey, 16-bit, palette and alpha files look like the picture they show."""
    assert difference(decode(encode(image, "PNG")).pixels, decode(encode(same.convert("RGB"), "PNG")).pixels) < 0.6


def test_a_16_bit_png_with_a_transparent_level_decodes() -> None:
    """Grey of 16 bits with a tRNS chunk, which no conversion of Pillow takes."""
    grey = Image.fromarray(np.asarray(scene().convert("L")).astype(np.uint16) * 257)
    data = encode(grey, "PNG")
    keyed = data[:33] + png_chunk(b"tRNS", struct.pack(">H", 0)) + data[33:]
    assert np.array_equal(decode(keyed).pixels, decode(data).pixels)


def test_transparency_is_white() -> None:
    """What shows through is white, in RGBA, palette and keyed files alike, whatever colour lies under it."""
    clear = Image.new("RGBA", (64, 64), (200, 10, 10, 0))
    half = Image.new("RGBA", (64, 64), (0, 0, 0, 128))
    palette = Image.new("P", (64, 64), 3)
    palette.putpalette([9, 9, 9] * 256)
    assert decode(encode(clear, "PNG")).pixels.min() == 255
    assert decode(encode(clear, "WEBP", lossless=True)).pixels.min() == 255
    assert abs(int(decode(encode(half, "PNG")).pixels.mean()) - 127) <= 1
    assert decode(encode(palette, "PNG", transparency=3)).pixels.min() == 255
    assert decode(encode(Image.new("RGB", (64, 64), (1, 2, 3)), "PNG", transparency=(1, 2, 3))).pixels.min() == 255


def test_cmyk_jpegs_have_inverted_inks() -> None:
    """As Adobe writes them and browsers read them, with and without Adobe's marker."""
    adobe = encode(scene().convert("CMYK"), "JPEG", quality=95)
    marker = adobe.index(b"Adobe") - 4
    length = 2 + struct.unpack(">H", adobe[marker + 2 : marker + 4])[0]
    plain = adobe[:marker] + adobe[marker + length :]
    exact = decode(encode(scene(), "PNG")).pixels
    assert difference(decode(adobe).pixels, exact) < 3
    assert difference(decode(plain).pixels, exact) < 3


def test_a_broken_colour_profile_is_ignored() -> None:
    """The same pixels with and without it."""
    plain = encode(scene(), "PNG")
    assert np.array_equal(decode(encode(scene(), "PNG", icc_profile=b"\0" * 200)).pixels, decode(plain).pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 16_000), (16_000, 1), (2, 3), (255, 257)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_tiny_and_thin_pictures_work(size: tuple[int, int], kind: str) -> None:
    """One pixel is a picture; a long thin one is not blown up on the way to 224 × 224."""
    found = decode(encode(Image.new("RGB", size, (10, 200, 30)), kind), thumbnail=True)
    assert (found.width, found.height) == size
    assert difference(found.pixels, np.full((224, 224, 3), (10, 200, 30))) < 3
    assert found.thumbnail is not None
    assert max(Image.open(io.BytesIO(found.thumbnail)).size) == min(256, max(size))


def test_the_thumbnail_shows_the_whole_picture_upright() -> None:
    """WebP, longest side 256, also of a cropped query."""
    found = decode(encode(scene(1200, 800), "JPEG", quality=95), crop=(0, 0, 0.2, 0.2), thumbnail=True)
    assert found.thumbnail is not None
    small = Image.open(io.BytesIO(found.thumbnail))
    assert (small.format, small.size) == ("WEBP", (256, 171))
    assert difference(np.asarray(small.convert("RGB")), np.asarray(scene(256, 171))) < 8
    assert decode(encode(scene(), "JPEG")).thumbnail is None


@pytest.mark.parametrize("size", [(3000, 2250), (1600, 1200)])
def test_shrinking_while_decoding_keeps_the_picture(size: tuple[int, int]) -> None:
    """A JPEG decoded at an eighth or a half differs by about one level from the full decode of the same pixels."""
    data = encode(scene(*size), "JPEG", quality=92)
    full = encode(Image.open(io.BytesIO(data)), "PNG", compress_level=0)
    assert difference(decode(data).pixels, decode(full).pixels) < 1.5


FOREIGN = {
    "empty": b"",
    "text": b"hello, I am a photograph " * 40,
    "gif": encode(scene(), "GIF"),
    "tiff": encode(scene(), "TIFF"),
    "bmp": encode(scene(), "BMP"),
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
    "pdf": b"%PDF-1.7\n" + b"0" * 100,
    "zip": b"PK\3\4" + b"\0" * 60,
    "sound": b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 40,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_anything_else_is_unsupported(name: str) -> None:
    """Judged by the bytes; the message says what to send."""
    with pytest.raises(UnsupportedImage, match="send JPEG, PNG or WebP"):
        decode(FOREIGN[name])


@pytest.mark.parametrize("missing", [5, 12, 13, 100, 2000])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True})],
)
def test_truncated_files_are_refused(kind: str, options: dict[str, Any], missing: int) -> None:
    """A file is whole or refused, however little of its pixels is gone."""
    data = encode(scene(), kind, **options)
    tail = 20 if kind == "PNG" else 0  # two checksums and the end mark, without which the pixels are still there
    with pytest.raises(UndecodableImage):
        decode(data[: max(20, len(data) - tail - missing)])


@pytest.mark.parametrize("size", [(400, 300), (1601, 1203), (3001, 2401)])
@pytest.mark.parametrize("progressive", [False, True])
def test_an_end_mark_behind_half_a_jpeg_deceives_nobody(size: tuple[int, int], progressive: bool) -> None:
    """libjpeg would fill the rest with grey: cut at a half and closed, filled with zeros, or both, it is refused."""
    data = encode(scene(*size), "JPEG", quality=90, progressive=progressive)
    half = data[: len(data) // 2]
    assert decode(data).width == size[0]
    for closed in (half + b"\xff\xd9", half + b"\xff\xd9" + b"\0" * 500, half + bytes(len(data) - len(half))):
        with pytest.raises(UndecodableImage, match="cut short"):
            decode(closed)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truly_grey_jpeg_is_sound(mode: str, progressive: bool) -> None:
    """The grey of missing data is an ordinary colour too; bytes behind the end mark do not matter."""
    image = scene(801, 601).convert(mode)
    image.paste(128 if mode == "L" else (128, 128, 128), (0, 300, 801, 601))
    data = encode(image, "JPEG", quality=90, progressive=progressive)
    assert np.array_equal(decode(data).pixels, decode(data + b"appended" * 9).pixels)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_a_png_with_missing_rows_is_refused(mode: str) -> None:
    """Compressed data that end early but cleanly; a picture whose last rows are black is sound."""
    image = scene(90, 60).convert(mode)
    image.paste(0, (0, 40, 90, 60))
    data = encode(image, "PNG")
    assert decode(data).height == 60
    start, stop = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    rows = zlib.decompress(data[start + 8 : stop - 4])
    short = png_chunk(b"IDAT", zlib.compress(rows[: len(rows) * 2 // 3]))
    with pytest.raises(UndecodableImage, match="rows are missing"):
        decode(data[:start] + short + data[stop:])


SOUND_IN_SPITE_OF = {
    "exif": png_chunk(b"eXIf", b"garbage" * 5),
    "exif cut": png_chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff"),
    "profile bomb": png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(5_000_000))),
    "profile": png_chunk(b"iCCP", b"x\0\0 not compressed"),
    "text bomb": png_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(5_000_000))),
    "checksum": png_chunk(b"tEXt", b"key\0value")[:-1] + b"?",
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", SOUND_IN_SPITE_OF)
def test_broken_extras_refuse_no_sound_png(name: str) -> None:
    """Metadata that nobody asked for is not a reason to turn a picture away."""
    data = encode(scene(), "PNG")
    assert np.array_equal(decode(data[:33] + SOUND_IN_SPITE_OF[name] + data[33:]).pixels, decode(data).pixels)


def test_interlaced_pngs_are_counted_in_passes() -> None:
    """Every size from 1 × 1 to 9 × 9 adds up, and one byte less is noticed."""
    for width in range(1, 10):
        for height in range(1, 10):
            size = 0
            for left, top, across, down in (
                (0, 0, 8, 8),
                (4, 0, 8, 8),
                (0, 4, 4, 8),
                (2, 0, 4, 4),
                (0, 2, 2, 4),
                (1, 0, 2, 2),
                (0, 1, 1, 2),
            ):
                columns, rows = len(range(left, width, across)), len(range(top, height, down))
                size += rows * (1 + 3 * columns) if columns else 0
            header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
            whole, less = (
                b"\x89PNG\r\n\x1a\n"
                + header
                + png_chunk(b"IDAT", zlib.compress(bytes(count)))
                + png_chunk(b"IEND", b"")
                for count in (size, size - 1)
            )
            assert decode(whole).width == width
            with pytest.raises(UndecodableImage):
                decode(less)


def test_sizes_are_refused_from_the_header() -> None:
    """A few kB that claim 900 megapixels cost nothing: no pixel is decoded."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    with pytest.raises(ImageTooLarge, match="longest side"):
        decode(bomb)
    with pytest.raises(ImageTooLarge, match="more than 899,999,999 pixels"):
        decode(bomb, Limits(max_pixels=899_999_999, max_side=30_000))


def test_limits_are_exact() -> None:
    """One pixel less is refused, the exact number accepted; the same for the longest side."""
    data = encode(scene(300, 200), "JPEG")
    assert decode(data, Limits(max_pixels=60_000, max_side=300)).width == 300
    with pytest.raises(ImageTooLarge):
        decode(data, Limits(max_pixels=59_999))
    with pytest.raises(ImageTooLarge):
        decode(data, Limits(max_side=299))


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_an_animation_counts_all_frames_and_shows_the_first(kind: str) -> None:
    """Frames × pixels is what the limit bounds; within it the first frame is the picture."""
    first, others = scene(100, 80), [Image.new("RGB", (100, 80), (shade, 0, 0)) for shade in (10, 90, 170)]
    data = encode(first, kind, save_all=True, append_images=others, lossless=True, duration=50)
    found = decode(data, Limits(max_pixels=4 * 8000))
    assert difference(found.pixels, decode(encode(first, "PNG")).pixels) < 1
    with pytest.raises(ImageTooLarge, match="4 frames"):
        decode(data, Limits(max_pixels=4 * 8000 - 1))


def test_a_claimed_number_of_frames_is_believed() -> None:
    """An APNG header of four billion frames is over the limit, though none of them is there."""
    data = encode(scene(64, 64), "PNG")
    control = png_chunk(b"acTL", struct.pack(">II", 0xFFFFFFF0, 0))
    with pytest.raises(ImageTooLarge, match="frames"):
        decode(data[:33] + control + data[33:])


def test_zero_sizes_are_undecodable() -> None:
    """Nothing divides by a width of zero."""
    data = bytearray(encode(scene(), "PNG"))
    data[16:20] = b"\0\0\0\0"
    with pytest.raises(UndecodableImage):
        decode(bytes(data))
    jpeg = bytearray(encode(scene(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = b"\0\0\0\0"
    with pytest.raises(UndecodableImage):
        decode(bytes(jpeg))


def test_a_webp_canvas_is_checked_before_memory_is_taken() -> None:
    """A 16,384 × 16,384 canvas would cost 2 GB inside the decoder: refused from the bytes."""
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xff\x3f\x00" * 2
    data = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    with pytest.raises(ImageTooLarge):
        decode(data)


def test_heic_and_avif_with_the_extra() -> None:
    """With pillow-heif installed phones' HEIC works like any other kind, cut short included."""
    heif = pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")
    target = io.BytesIO()
    try:
        heif.from_pillow(scene()).save(target, quality=95)
    except (RuntimeError, OSError) as error:
        pytest.skip(f"this pillow-heif cannot write HEIC: {error}")
    found = decode(target.getvalue())
    assert (found.format, found.width, found.height) == ("heif", 320, 240)
    assert difference(found.pixels, decode(encode(scene(), "PNG")).pixels) < 4
    with pytest.raises(ImageTooLarge):
        decode(target.getvalue(), Limits(max_side=319))
    with pytest.raises(UndecodableImage):
        decode(target.getvalue()[:-50])


@pytest.mark.parametrize(
    ("name", "change"),
    {
        "12 bits": lambda data, frame: data[: frame + 4] + b"\x0c" + data[frame + 5 :],
        "lossless": lambda data, frame: data[: frame + 1] + b"\xc3" + data[frame + 2 :],
        "hierarchical": lambda data, frame: data[: frame + 1] + b"\xc5" + data[frame + 2 :],
        "two channels": lambda data, frame: data[: frame + 9] + b"\2" + data[frame + 10 :],
        "no channels": lambda data, frame: data[: frame + 9] + b"\0" + data[frame + 10 :],
        "no height": lambda data, frame: data[: frame + 5] + b"\0\0" + data[frame + 7 :],
    }.items(),
)
def test_forms_of_jpeg_that_no_browser_shows_are_refused(name: str, change: Callable[[bytes, int], bytes]) -> None:
    data = encode(scene(), "JPEG")
    with pytest.raises(UndecodableImage):
        decode(change(data, data.index(b"\xff\xc0")))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 16_383), (16_383, 1), (16_383, 3), (5, 16_383)])
def test_the_longest_sides_work(kind: str, size: tuple[int, int]) -> None:
    found = decode(encode(Image.new("RGB", size, (200, 90, 30)), kind, quality=90), thumbnail=True)
    assert (found.width, found.height) == size
    assert difference(found.pixels, np.full((224, 224, 3), (200, 90, 30))) < 3


def of_one_colour() -> dict[str, Image.Image]:
    white = Image.new("RGB", (600, 400), "white")
    grain = np.random.default_rng(1).normal(128, 8, (400, 600, 3)).clip(0, 255).astype(np.uint8)
    dot, line = white.copy(), white.copy()
    ImageDraw.Draw(dot).ellipse((300, 200, 315, 215), fill="black")
    ImageDraw.Draw(line).text((280, 190), "hello", fill="black")
    return {
        "white": white,
        "a colour": Image.new("RGB", (99, 700), (10, 200, 30)),
        "clear": Image.new("RGBA", (64, 64), (200, 10, 10, 0)),
        "grain": Image.fromarray(grain),
        "a dot": dot,
        "a word": line,
        "a soft gradient": Image.linear_gradient("L").resize((400, 400)).point(lambda level: 200 + level // 10),
        "one pixel": Image.new("RGB", (1, 1), "red"),
    }


@pytest.mark.parametrize("name", of_one_colour())
@pytest.mark.parametrize("rule", ["crop", "squash", "pad"])
def test_one_colour_and_almost_nothing_else_is_plain(name: str, rule: Rule) -> None:
    """What `pad` adds around it does not count."""
    assert decode(encode(of_one_colour()[name], "PNG"), preprocessing=Preprocessing(rule=rule)).plain


def test_a_picture_with_something_in_it_is_not_plain() -> None:
    thing = Image.new("RGB", (600, 400), "white")
    ImageDraw.Draw(thing).ellipse((270, 170, 330, 230), fill=(200, 30, 30))
    assert not decode(encode(thing, "PNG")).plain
    assert not decode(encode(scene(), "JPEG")).plain


def test_no_photograph_is_plain(photos: Photos) -> None:
    """A hundred of each kind; the widest rule that a picture could come near is measured over all of them."""
    for dataset, name in (("clothing", "queries"), ("groceries", "product-shots"), ("unrelated", "images")):
        for photo in photos(dataset, name, 100):
            assert not decode(photo.read()).plain, photo.path
