"""Whatever the bytes are, a picture decodes or raises an ImageError; nothing else, and in bounded memory and time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.errors import ImageError
from models.pictures import cost, exif
from models.pictures.colour import to_srgb
from models.pictures.image import decode
from models.pictures.limits import Limits
from tests.harness import profiles
from tests.harness.soak import examples
from tests.harness.wild import case, jpegs, pngs

SIGNATURES = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP"]
LIMITS = Limits(max_pixels=4_000_000)


@pytest.fixture(scope="module")
def samples() -> list[bytes]:
    """A small file of every form."""
    small = case.scene(48, 40)
    clear = small.copy()
    clear.putalpha(Image.linear_gradient("L").resize(small.size))
    frames: case.Options = {"save_all": True, "append_images": [small.rotate(90)]}
    wide = profiles.rgb(profiles.DISPLAY_P3)
    jpeg, turned = case.encode(small, "JPEG"), case.exif(6)
    return [
        jpeg,
        case.encode(small, "JPEG", progressive=True, exif=turned),
        case.encode(small, "JPEG", restart_marker_rows=1, icc_profile=wide),
        case.encode(small, "JPEG", progressive=True, restart_marker_rows=1),
        case.encode(small.convert("L"), "JPEG", subsampling=0),
        case.encode(small.convert("CMYK"), "JPEG", icc_profile=profiles.cmyk()),
        jpegs.scan_by_scan(small),
        jpegs.ycck(small),
        case.encode(small, "PNG", exif=turned, icc_profile=wide),
        case.encode(small.convert("P"), "PNG", transparency=1),
        case.encode(small, "PNG", **frames),
        pngs.encode_interlaced(small),
        *(each.data for each in pngs.apngs()[:1] + pngs.transparent_pngs()[8:12]),
        case.encode(small, "WEBP", exif=turned),
        case.encode(clear, "WEBP", lossless=True, icc_profile=wide),
        case.encode(clear, "WEBP", **frames),
    ]


def spoil(picture: bytearray, draw: st.DataObject) -> None:
    """Changes one place: bytes of their own, gone, twice, or the marks that decoders look for."""
    start = draw.draw(st.integers(0, len(picture) - 1))
    stop = min(len(picture), start + draw.draw(st.sampled_from([0, 1, 1, 2, 4, 30, 500])))
    piece = picture[start:stop]
    picture[start:stop] = draw.draw(
        st.sampled_from(
            [
                b"",
                piece * 2,
                b"\0" * len(piece),
                b"\xff" * len(piece),
                b"\xff\xd9",
                b"\xff\xda",
                b"IEND",
                b"IDAT",
                b"ANMF",
            ]
        )
        | st.binary(min_size=1, max_size=6)
    )


@settings(max_examples=examples(300))
@given(st.data())
def test_damaged_pictures_decode_or_raise_image_errors(samples: list[bytes], data: st.DataObject) -> None:
    picture = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(1, 6))):
        if picture:
            spoil(picture, data)
    if data.draw(st.booleans()) and picture:
        del picture[data.draw(st.integers(1, len(picture))) :]
    assert cost.seconds(bytes(picture)) >= 0
    try:
        found = decode(bytes(picture), LIMITS, thumbnail=True)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert found.pixels.shape == (224, 224, 3)
        assert found.width * found.height <= LIMITS.max_pixels


@settings(max_examples=examples(150))
@given(st.binary(max_size=400), st.sampled_from(SIGNATURES))
def test_random_bytes_only_ever_raise_image_errors(tail: bytes, start: bytes) -> None:
    assert cost.seconds(start + tail) >= 0
    with pytest.raises(ImageError):
        decode(start + tail)


@settings(max_examples=examples(200))
@given(st.data())
def test_any_exif_gives_an_orientation(data: st.DataObject) -> None:
    block = bytearray(case.exif(data.draw(st.integers(0, 65535)), data.draw(st.sampled_from("<>"))))
    for _ in range(data.draw(st.integers(0, 4))):
        if block:
            spoil(block, data)
    assert 1 <= exif.orientation(bytes(block)) <= 8
    assert exif.orientation(data.draw(st.binary(max_size=60))) == 1


@settings(max_examples=examples(150))
@given(st.data())
def test_any_profile_gives_a_picture(data: st.DataObject) -> None:
    mode, made = data.draw(
        st.sampled_from(
            [("RGB", profiles.rgb(profiles.ADOBE_RGB, 2.2)), ("L", profiles.grey(1.8)), ("CMYK", profiles.cmyk())]
        )
    )
    profile = bytearray(made)
    for _ in range(data.draw(st.integers(1, 6))):
        if profile:
            spoil(profile, data)
    assert to_srgb(case.scene(16, 12).convert(mode), bytes(profile)).mode == "RGB"
