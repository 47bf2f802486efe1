"""A picture has a budget: what would cost more memory or time than its pixels need costs it not, or is refused."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from models.errors import ImageTooLarge, UndecodableImage
from models.pictures import cost
from models.pictures.header import read_header
from models.pictures.image import decode
from models.pictures.limits import MAX_SCANS, Limits
from tests.harness.wild.case import encode, scene
from tests.harness.wild.jpegs import inserted, markers, place, segment
from tests.harness.wild.pngs import SIGNATURE, chunk, encode_interlaced, idat

# Decodes each file named, and may take a quarter of a gigabyte for it.
DECODE = """
import io, json, resource, sys
from pathlib import Path
from PIL import Image
from models.pictures.image import decode
warm = io.BytesIO()
Image.new("RGB", (9, 9)).save(warm, "PNG")
decode(warm.getvalue())
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)
print(json.dumps({name: decode(Path(name).read_bytes()).width for name in sys.argv[1:]}))
"""


def zeros(count: int) -> bytes:
    """So many zeros, deflated to a thousandth."""
    deflate = zlib.compressobj(9)
    piece = bytes(1 << 20)
    return b"".join([deflate.compress(piece) for _ in range(count >> 20)]) + deflate.flush()


def bombs() -> dict[str, bytes]:
    bomb = zeros(2_000_000_000)
    sound, black, passes = (
        encode(scene(), "PNG"),
        encode(Image.new("RGB", (320, 240)), "PNG"),
        encode_interlaced(scene()),
    )
    (start, stream), (at, rows), (first, _) = (idat(each) for each in (sound, black, passes))
    end = chunk(b"IEND", b"")
    return {
        "rows without end": black[:at] + chunk(b"IDAT", bomb) + end,
        "rows without end, interlaced": passes[:first] + chunk(b"IDAT", bomb) + end,
        "rows without end, no end mark": black[:at] + chunk(b"IDAT", bomb),
        "a bomb behind the rows": sound[:start] + chunk(b"IDAT", stream + bomb) + end,
        "a bomb in a second IDAT": black[:at] + chunk(b"IDAT", rows) + chunk(b"IDAT", bomb) + end,
        "a profile": sound[:start] + chunk(b"iCCP", b"x\0\0" + bomb) + sound[start:],
        "text": sound[:start] + chunk(b"zTXt", b"x\0\0" + bomb) + sound[start:],
        "international text": sound[:start] + chunk(b"iTXt", b"x\0\1\0\0\0" + bomb) + sound[start:],
        "a profile behind the rows": sound[:-12] + chunk(b"iCCP", b"x\0\0" + bomb) + sound[-12:],
    }


def test_nothing_is_inflated_further_than_the_pixels_need(tmp_path: Path) -> None:
    """Two megabytes that inflate to two gigabytes, in every place of a PNG that is compressed."""
    names = []
    for name, data in bombs().items():
        assert len(data) < 3_000_000
        (tmp_path / name).write_bytes(data)
        names.append(str(tmp_path / name))
    done = subprocess.run([sys.executable, "-c", DECODE, *names], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == dict.fromkeys(names, 320)


def repeated(data: bytes, count: int) -> bytes:
    """The last scan of a progressive JPEG so many times more."""
    end = place(data, 0xD9)
    return data[:end] + data[place(data, 0xDA, -1) : end] * count + data[end:]


@pytest.mark.parametrize("size", [(64, 64), (640, 480)])
@pytest.mark.parametrize("restarts", [{}, {"restart_marker_rows": 1}])
def test_scans_times_pixels_are_bounded(size: tuple[int, int], restarts: dict[str, int]) -> None:
    """Exactly MAX_SCANS of the largest picture; of a smaller one so many more."""
    whole = encode(Image.new("L", size, 90), "JPEG", progressive=True, **restarts)
    own = sum(marker == 0xDA for marker, _ in markers(whole))
    limits = Limits(max_pixels=3 * size[0] * size[1])
    most = repeated(whole, 3 * MAX_SCANS - own)
    assert read_header(most).scans == 3 * MAX_SCANS
    decode(most, limits)
    with pytest.raises(ImageTooLarge, match=f"in {3 * MAX_SCANS + 1} scans"):
        decode(repeated(whole, 3 * MAX_SCANS - own + 1), limits)


def test_junk_between_scans_hides_none() -> None:
    whole = encode(scene(64, 48), "JPEG", progressive=True)
    spoiled = inserted(whole, place(whole, 0xDA, -1), b"junk\xff\0" + segment(0xFE, b"\xff\xd9\xff\xda") + b"\xff\xd0")
    assert read_header(spoiled).scans == read_header(whole).scans
    assert read_header(repeated(spoiled, 50)).scans == read_header(whole).scans + 50


def test_too_many_segments_and_chunks_are_refused() -> None:
    plain = encode(scene(), "JPEG")
    with pytest.raises(UndecodableImage, match="too many segments"):
        decode(inserted(plain, 2, segment(0xFE, b"") * 100_001))
    png = encode(scene(), "PNG")
    with pytest.raises(UndecodableImage, match="too many chunks"):
        decode(png[:33] + chunk(b"teXt", b"") * 100_001 + png[33:])


def test_what_takes_long_is_known_before() -> None:
    """Photographs of a phone are cheap as JPEG; many scans, a large PNG, a large WebP are not."""
    header = struct.pack(">IIBBBBB", 8000, 8000, 8, 2, 0, 0, 0)
    large = SIGNATURE + chunk(b"IHDR", header)
    photo = encode(Image.new("RGB", (4000, 3000)), "JPEG")
    assert cost.seconds(encode(scene(), "PNG")) < cost.seconds(photo) < 0.1
    assert cost.seconds(large) > 1
    webp = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\x3f\x1f\0" * 2
    assert cost.seconds(b"RIFF" + struct.pack("<I", 22) + b"WEBP" + webp) > 1
    assert cost.seconds(repeated(encode(Image.new("L", (2000, 2000)), "JPEG", progressive=True), 400)) > 1


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0", SIGNATURE, b"RIFF\0\0\0\0WEBP"]
)
def test_what_is_refused_at_once_costs_nothing(data: bytes) -> None:
    assert cost.seconds(data) == 0
