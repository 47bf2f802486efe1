"""PNGs as they come, whole ones and ones that lack rows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.harness.wild.case import UNDO, Wild, encode, exif, on_white, scene, xmp

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes, wrong: int = 0) -> bytes:
    """wrong: changes the checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ wrong)


def png(
    size: tuple[int, int], depth: int, colour: int, rows: list[bytes], before: bytes = b"", interlaced: bool = False
) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced))
    stream = zlib.compress(b"".join(b"\0" + row for row in rows))
    return SIGNATURE + header + before + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


def packed(values: npt.NDArray[np.uint8], depth: int) -> list[bytes]:
    """Rows of samples of 1, 2 or 4 bits."""
    bits = np.unpackbits(values[:, :, None], axis=2)[:, :, 8 - depth :]
    return [row.tobytes() for row in np.packbits(bits.reshape(len(values), -1), axis=1)]


def square(inside: Any, outside: Any, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    """240 rows of 320 values (or colours): one in a rectangle, another around it."""
    area = np.empty((240, 320, *np.shape(inside)), dtype)
    area[:] = outside
    area[60:160, 60:220] = inside
    return area


def transparent_pngs() -> list[Wild]:
    """A rectangle on a transparent ground."""
    red = encode(Image.fromarray(square((255, 0, 0), (255, 255, 255))), "PNG")
    black = encode(Image.fromarray(square(0, 255)), "PNG")
    size = (320, 240)
    files = []
    for depth, key in ((1, 1), (2, 2), (4, 9), (8, 77)):
        rows = packed(square(0, key), depth) if depth < 8 else [row.tobytes() for row in square(0, key)]
        files.append(
            (f"grey of {depth} bits", png(size, depth, 0, rows, chunk(b"tRNS", struct.pack(">H", key))), black)
        )
        palette = chunk(b"PLTE", bytes((255, 0, 0)) + bytes((10, 20, 30)) * (2**depth - 1))
        alpha = chunk(b"tRNS", bytes(255 if index != key else 0 for index in range(key + 1)))
        files.append((f"palette of {depth} bits", png(size, depth, 3, rows, palette + alpha), red))
    half = Image.fromarray(square((255, 0, 0), (127, 127, 127)))
    rows = packed(square(0, 1), 1)
    palette = chunk(b"PLTE", bytes((255, 0, 0, 0, 0, 0))) + chunk(b"tRNS", bytes((255, 128)))
    files.append(("palette half transparent", png(size, 1, 3, rows, palette), encode(half, "PNG")))
    grey = square(0, 0x8081, np.uint16)
    rows = [row.astype(">u2").tobytes() for row in grey]
    files.append(("grey of 16 bits", png(size, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 0x8081))), black))
    colour = (0x1234, 0x5678, 0x9ABC)
    rows = [row.astype(">u2").tobytes() for row in square((65535, 0, 0), colour, np.uint16)]
    files.append(("RGB of 16 bits", png(size, 16, 2, rows, chunk(b"tRNS", struct.pack(">HHH", *colour))), red))
    near = [row.astype(">u2").tobytes() for row in square((0, 0, 1), (65535, 65535, 65535), np.uint16)]
    files.append(
        (
            "RGB of 16 bits, a key that only the low bits miss",
            png(size, 16, 2, near, chunk(b"tRNS", bytes(6))),
            encode(Image.fromarray(square((0, 0, 0), (255, 255, 255))), "PNG"),
        )
    )
    near = [row.astype(">u2").tobytes() for row in square(1, 65535, np.uint16)]
    files.append(
        ("grey of 16 bits, a key that only the low bits miss", png(size, 16, 0, near, chunk(b"tRNS", bytes(2))), black)
    )
    rows = [row.tobytes() for row in square((255, 0, 0), (1, 2, 3))]
    files.append(("RGB of 8 bits", png(size, 8, 2, rows, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))), red))
    rows = [row.tobytes() for row in square((255, 0, 0, 255), (1, 2, 3, 0))]
    files.append(("RGBA", png(size, 8, 6, rows), red))
    rows = [row.astype(">u2").tobytes() for row in square((65535, 0, 0, 65535), (1, 2, 3, 0), np.uint16)]
    files.append(("RGBA of 16 bits", png(size, 16, 6, rows), red))
    rows = [row.tobytes() for row in square((0, 255), (9, 0))]
    files.append(("grey and alpha", png(size, 8, 4, rows), black))
    rows = [row.astype(">u2").tobytes() for row in square((0, 65535), (9, 0), np.uint16)]
    files.append(("grey and alpha of 16 bits", png(size, 16, 4, rows), black))
    return [Wild(f"png: transparent, {name}", "png", data, plain) for name, data, plain in files]


def idat(data: bytes) -> tuple[int, bytes]:
    """Where the only IDAT chunk of a PNG starts, and its body."""
    start = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, start)
    return start, data[start + 8 : start + 8 + length]


def sound() -> list[Wild]:
    whole = png((320, 240), 8, 2, [row.tobytes() for row in np.asarray(scene())])
    start, stream = idat(whole)
    head, tail = whole[:start], chunk(b"IEND", b"")
    rows = zlib.decompress(stream)
    three = b"".join(
        chunk(b"IDAT", stream[at : at + len(stream) // 3 + 1]) for at in range(0, len(stream), len(stream) // 3 + 1)
    )
    empty = chunk(b"IDAT", b"")
    pieces = {
        "adler32 wrong": head + chunk(b"IDAT", stream[:-4] + bytes(4)) + tail,
        "adler32 missing": head + chunk(b"IDAT", stream[:-4]) + tail,
        "adler32 half there": head + chunk(b"IDAT", stream[:-2]) + tail,
        "adler32 missing and no end": head + chunk(b"IDAT", stream[:-4]),
        "the checksum of IDAT wrong": head + chunk(b"IDAT", stream, wrong=1) + tail,
        "the checksum of IDAT missing": head + chunk(b"IDAT", stream)[:-4],
        "half the checksum of IDAT missing": head + chunk(b"IDAT", stream)[:-2],
        "IEND missing": head + chunk(b"IDAT", stream),
        "the checksum of IEND wrong": head + chunk(b"IDAT", stream) + tail[:-1] + b"?",
        "the checksum of IEND missing": whole[:-4],
        "IEND cut to 6 bytes": whole[:-6],
        "IEND cut to 3 bytes": whole[:-9],
        "an IEND with a body": head + chunk(b"IDAT", stream) + chunk(b"IEND", b"body"),
        "garbage behind IEND": whole + b"garbage" * 99,
        "garbage behind IDAT": head + chunk(b"IDAT", stream) + bytes(99),
        "a JPEG behind IEND": whole + encode(scene(), "JPEG"),
        "more rows than the picture has": head + chunk(b"IDAT", zlib.compress(rows + rows)) + tail,
        "bytes behind the compressed data": head + chunk(b"IDAT", stream + b"more" * 99) + tail,
        "a second IDAT behind the compressed data": head + chunk(b"IDAT", stream) + chunk(b"IDAT", b"more" * 99) + tail,
        "three IDATs": head + three + tail,
        "empty IDATs": head + empty + three + empty + tail,
        "text with a wrong checksum": head + chunk(b"tEXt", b"key\0value", wrong=1) + whole[start:],
        "text with a wrong checksum behind the pixels": whole[:-12] + chunk(b"tEXt", b"key\0value", wrong=1) + tail,
        "an unknown chunk with a wrong checksum": head + chunk(b"zzZz", b"value", wrong=1) + whole[start:],
        "physical size with a wrong checksum": head + chunk(b"pHYs", bytes(9), wrong=1) + whole[start:],
        "a profile that is none": head + chunk(b"iCCP", b"x\0\0 not compressed") + whole[start:],
        "text that is none": head + chunk(b"zTXt", b"x\0\0 not compressed") + whole[start:],
        "EXIF that is none": head + chunk(b"eXIf", b"garbage" * 5) + whole[start:],
        "XMP that turns by 6": head + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)) + whole[start:],
        "a time of the month 77": head + chunk(b"tIME", b"\7\xd0\x4d\1\1\1\1") + whole[start:],
        "a suggested palette": head + chunk(b"PLTE", bytes(range(30))) + whole[start:],
        "a gamma of 0": head + chunk(b"gAMA", bytes(4)) + whole[start:],
        "interlaced": encode_interlaced(scene()),
        "interlaced, adler32 wrong": mended(encode_interlaced(scene()), lambda stream: stream[:-4] + bytes(4)),
    }
    plain = encode(scene(), "PNG")
    files = [Wild(f"png: {name}", "png", data, plain) for name, data in pieces.items()]
    grey = scene().convert("L")
    deep = np.asarray(grey).astype(np.uint16) * 257
    files.append(Wild("png: grey of 16 bits", "png", encode(Image.fromarray(deep), "PNG"), encode(grey, "PNG")))
    colours = np.asarray(scene()).astype(">u2") * 257
    files.append(
        Wild(
            "png: RGB of 16 bits",
            "png",
            png((320, 240), 16, 2, [row.astype(">u2").tobytes() for row in colours]),
            plain,
        )
    )
    return files


def mended(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    start, stream = idat(data)
    return data[:start] + chunk(b"IDAT", change(stream)) + chunk(b"IEND", b"")


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def encode_interlaced(image: Image.Image) -> bytes:
    """Adam7, which Pillow does not write. RGB."""
    pixels = np.asarray(image)
    rows = [row.tobytes() for x, y, across, down in ADAM7 for row in pixels[y::down, x::across] if row.size]
    return png(image.size, 8, 2, rows, interlaced=True)


def short_pngs() -> list[Wild]:
    """Rows are missing, in every form."""
    files = []
    for name, whole in {
        "rows": png((320, 240), 8, 2, [row.tobytes() for row in np.asarray(scene())]),
        "interlaced": encode_interlaced(scene()),
    }.items():
        start, stream = idat(whole)
        head, tail = whole[:start], chunk(b"IEND", b"")
        rows = zlib.decompress(stream)
        for cut, part in {"a half": len(stream) // 2, "60 bytes": len(stream) - 60}.items():
            files += [
                Wild(f"png: {name}, {cut} missing", "png", whole[: start + 8 + part], whole),
                Wild(f"png: {name}, {cut} missing, closed", "png", head + chunk(b"IDAT", stream[:part]) + tail, whole),
                Wild(f"png: {name}, {cut} missing, no IEND", "png", head + chunk(b"IDAT", stream[:part]), whole),
            ]
        for left in (len(rows) // 2, len(rows) - 961, len(rows) - 1):
            less = zlib.compress(rows[:left])
            files.append(
                Wild(f"png: {name}, {left} of {len(rows)} bytes", "png", head + chunk(b"IDAT", less) + tail, whole)
            )
        files += [
            Wild(f"png: {name}, the checksum of IHDR wrong", "png", whole[:29] + bytes(4) + whole[33:], whole),
            Wild(f"png: {name}, two headers", "png", whole[:33] + whole[8:], whole),
            Wild(f"png: {name}, an unknown critical chunk", "png", head + chunk(b"ABCD", b"") + whole[start:], whole),
            Wild(f"png: {name}, no IDAT", "png", head + tail, whole),
            Wild(f"png: {name}, an empty IDAT", "png", head + chunk(b"IDAT", b"") + tail, whole),
            Wild(
                f"png: {name}, damaged in the middle",
                "png",
                head + chunk(b"IDAT", stream[: len(stream) // 2] + bytes(99) + stream[len(stream) // 2 + 99 :]) + tail,
                whole,
            ),
        ]
    return files


def apngs() -> list[Wild]:
    small = scene(200, 150)

    def frame(number: int, image: Image.Image, place: tuple[int, int]) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, *image.size, *place, 1, 1, 0, 0))

    def stream(image: Image.Image) -> bytes:
        return zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(image)))

    header = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 320, 240, 8, 2, 0, 0, 0))
    still = chunk(b"IDAT", stream(Image.new("RGB", (320, 240), (0, 0, 255))))
    control = chunk(b"acTL", struct.pack(">II", 1, 0))
    tail = chunk(b"IEND", b"")
    first = frame(0, small, (60, 40)) + chunk(b"fdAT", struct.pack(">I", 1) + stream(small))
    whole = frame(0, scene(), (0, 0)) + chunk(b"fdAT", struct.pack(">I", 1) + stream(scene()))
    return [
        Wild(
            "png: animated, first frame smaller",
            "png",
            header + control + still + first + tail,
            encode(on_white(small, (60, 40)), "PNG"),
        ),
        Wild(
            "png: animated, the still picture is no frame",
            "png",
            header + control + still + whole + tail,
            encode(scene(), "PNG"),
        ),
        Wild(
            "png: animated, frames of an animation that is none",
            "png",
            header + chunk(b"IDAT", stream(scene())) + first + tail,
            encode(scene(), "PNG"),
        ),
        Wild(
            "png: animated",
            "png",
            encode(scene(), "PNG", save_all=True, append_images=[Image.new("RGB", (320, 240))], duration=10_000),
            encode(scene(), "PNG"),
        ),
    ]


def turned_pngs() -> list[Wild]:
    """Turned by EXIF, in either order of bytes."""
    return [
        Wild(f"png: turned by {orientation}, {order}", "png", data, encode(scene(), "PNG"))
        for orientation in UNDO
        for order in "<>"
        for stored in [encode(scene().transpose(UNDO[orientation]), "PNG")]
        for data in [stored[:33] + chunk(b"eXIf", exif(orientation, order)) + stored[33:]]
    ]
