"""Headers: size and frames as a full decoder would give them, from a few bytes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.errors import ImageError, UndecodableImage, UnsupportedImage
from models.pictures.header import read_header, sniff
from models.pictures.limits import Header
from tests.harness.soak import examples


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


@settings(max_examples=examples(60), deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(["JPEG", "PNG", "WEBP"]),
    st.sampled_from(["RGB", "RGBA", "L", "P", "CMYK"]),
    st.booleans(),
)
def test_sizes_are_those_that_pillow_reads(width: int, height: int, kind: str, mode: str, other: bool) -> None:
    """Every kind, mode and flavour (progressive, lossless, with metadata) of picture that Pillow writes."""
    fitting = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "L", "P"), "WEBP": ("RGB", "RGBA")}
    image = Image.new("RGB", (width, height), (9, 99, 199)).convert(mode if mode in fitting[kind] else "RGB")
    options: dict[str, object] = (
        {"progressive": other} if kind == "JPEG" else {"lossless": other} if kind == "WEBP" else {}
    )
    data = encode(image, kind, exif=Image.Exif().tobytes(), **options)
    found = read_header(data)
    assert (found.kind, found.width, found.height, found.frames) == (kind.lower(), width, height, 1)
    assert (found.scans > 1) == (kind == "JPEG" and other)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("frames", [2, 5])
def test_frames_are_counted(kind: str, frames: int) -> None:
    """APNG by its control chunk, WebP by its frames."""
    pictures = [Image.new("RGB", (20, 10), (shade * 40, 0, 0)) for shade in range(frames)]
    data = encode(pictures[0], kind, save_all=True, append_images=pictures[1:])
    assert read_header(data) == Header(kind.lower(), 20, 10, frames)


def test_what_a_camera_appends_to_a_jpeg_is_no_frame() -> None:
    """A multi-picture file (gain map, second view) counts as its first picture."""
    pictures = [Image.new("RGB", (40, 30), (shade * 99, 0, 0)) for shade in range(3)]
    data = encode(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    assert read_header(data) == Header("jpeg", 40, 30, 1)


@pytest.mark.parametrize("keep", [3, 8, 12, 20, 30, 33, 40])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_header_cut_short_is_undecodable(kind: str, keep: int) -> None:
    """Too few bytes to know the kind are unsupported, too few for a size undecodable."""
    with pytest.raises((UndecodableImage, UnsupportedImage)):
        read_header(encode(Image.new("RGB", (64, 64)), kind)[:keep])


@pytest.mark.parametrize(
    ("start", "name"), [(b"GIF89a", "GIF"), (b"II*\0", "TIFF"), (b"%PDF-1.7", "PDF"), (b"BM", "BMP"), (b"<svg ", "SVG")]
)
def test_foreign_files_are_called_by_name(start: bytes, name: str) -> None:
    """Whoever sends a GIF reads that GIF is not accepted, and what is."""
    with pytest.raises(UnsupportedImage, match=f"{name} is not accepted: send JPEG, PNG or WebP"):
        sniff(start + b" " * 40)


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP"]), st.binary(max_size=200))
def test_any_bytes_give_a_header_or_an_image_error(start: bytes, rest: bytes) -> None:
    """The parsers read past no end and loop for ever on nothing."""
    try:
        header = read_header(start + rest)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert min(header.width, header.height, header.frames) >= 1
