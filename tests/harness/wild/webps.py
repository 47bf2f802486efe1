"""WebPs as they come, whole ones and ones that break off."""

from __future__ import annotations

import struct

from PIL import Image

from tests.harness.wild.case import UNDO, Options, Wild, encode, exif, on_white, scene, xmp
from tests.harness.wild.pngs import square


def riff(*parts: bytes, size: int | None = None) -> bytes:
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def block(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def blocks(data: bytes) -> dict[bytes, bytes]:
    found = {}
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        found[kind] = data[position + 8 : position + 8 + length]
        position += 8 + length + (length & 1)
    return found


def without_alpha_flag(data: bytes) -> bytes:
    at = data.index(b"VP8X") + 8
    return data[:at] + bytes([data[at] & ~0x10]) + data[at + 1 :]


def sound() -> list[Wild]:
    files = []
    forms: dict[str, Options] = {"lossy": {"quality": 90}, "lossless": {"lossless": True}}
    for name, options in forms.items():
        whole = encode(scene(), "WEBP", **options)
        with_exif = encode(scene(), "WEBP", exif=exif(1), **options)
        ((kind, body),) = blocks(whole).items()
        found = {
            "garbage behind the end": whole + b"garbage" * 9,
            "an unknown chunk": riff(block(kind, body), block(b"ZZZZ", b"value")),
            "extended": with_exif,
            "extended, EXIF that is none": with_exif.replace(exif(1), b"garbage" * 2 + bytes(len(exif(1)) - 14)),
            "extended, XMP that turns by 6": encode(scene(), "WEBP", xmp=xmp(6), **options),
            "extended, a profile that is none": encode(scene(), "WEBP", icc_profile=bytes(200), **options),
        }
        files += [Wild(f"webp: {name}, {what}", "webp", data, whole) for what, data in found.items()]
    small = scene(200, 150)
    clear = Image.new("RGBA", (320, 240), (0, 0, 0, 0))
    clear.paste(small.convert("RGBA"), (60, 40))
    blue = Image.new("RGBA", (320, 240), (0, 0, 255, 255))
    frames: Options = {"save_all": True, "append_images": [blue], "duration": 10_000}
    shown = encode(on_white(small, (60, 40)), "PNG")
    animated = encode(clear, "WEBP", lossless=True, **frames)
    files += [
        Wild("webp: animated, first frame smaller", "webp", animated, shown),
        Wild(
            "webp: animated, first frame smaller, a black ground",
            "webp",
            encode(clear, "WEBP", lossless=True, background=(0, 0, 0, 255), **frames),
            shown,
        ),
        Wild("webp: animated, first frame smaller, lossy", "webp", encode(clear, "WEBP", quality=95, **frames), shown),
        Wild("webp: animated, whole", "webp", encode(scene(), "WEBP", lossless=True, **frames), encode(scene(), "PNG")),
    ]
    return files


def short_webps() -> list[Wild]:
    files = []
    forms: dict[str, Options] = {
        "lossy": {"quality": 90},
        "lossless": {"lossless": True},
        "extended": {"quality": 90, "exif": exif(1)},
    }
    for name, options in forms.items():
        whole = encode(scene(), "WEBP", **options)
        kind = b"VP8L" if name == "lossless" else b"VP8 "
        start = whole.index(kind)
        (length,) = struct.unpack_from("<I", whole, start + 4)
        for cut, left in {
            "a half": length // 2,
            "a tenth": length * 9 // 10,
            "60 bytes": length - 60,
            "12 bytes": length - 12,
        }.items():
            short = whole[: start + 8 + left]
            body = whole[start + 8 : start + 8 + left]
            files += [
                Wild(f"webp: {name}, {cut} missing", "webp", short, whole),
                Wild(
                    f"webp: {name}, {cut} missing, size right",
                    "webp",
                    short[:4] + struct.pack("<I", len(short) - 8) + short[8:],
                    whole,
                ),
                Wild(
                    f"webp: {name}, {cut} missing, sizes right", "webp", riff(whole[12:start], block(kind, body)), whole
                ),
            ]
        found = {
            "size of 0": whole[:4] + bytes(4) + whole[8:],
            "size 2 too long": whole[:4] + struct.pack("<I", len(whole) - 8 + 2) + whole[8:],
            "size 2 too short": whole[:4] + struct.pack("<I", len(whole) - 8 - 2) + whole[8:],
            "size of 4 GB": whole[:4] + struct.pack("<I", 0xFFFFFFF0) + whole[8:],
            "garbage inside the end": riff(whole[12:], b"garbage" * 9),
            "no chunk": riff(),
        }
        files += [Wild(f"webp: {name}, {what}", "webp", data, whole) for what, data in found.items()]
    with_exif = encode(scene(), "WEBP", exif=exif(1))
    animated = encode(scene(), "WEBP", save_all=True, append_images=[Image.new("RGB", (320, 240))], duration=10_000)
    files += [
        Wild("webp: EXIF cut short", "webp", with_exif[:-10], with_exif),
        Wild("webp: EXIF missing", "webp", with_exif[: with_exif.index(b"EXIF")], with_exif),
        Wild("webp: animated, last frame cut short", "webp", animated[:-20], animated),
    ]
    return files


def transparent_webps() -> list[Wild]:
    """A rectangle on a transparent ground. What an alpha chunk says counts only where the header announces it."""
    clear = Image.fromarray(square((255, 0, 0, 255), (1, 2, 3, 0)))
    red = encode(Image.fromarray(square((255, 0, 0), (255, 255, 255))), "PNG")
    exact: Options = {"exact": True, "exif": exif(1)}
    opaque = encode(clear.convert("RGB"), "PNG")
    lossy, lossless = encode(clear, "WEBP", quality=90, **exact), encode(clear, "WEBP", lossless=True, **exact)
    return [
        Wild("webp: transparent", "webp", encode(clear, "WEBP", lossless=True, exact=True), red),
        Wild("webp: transparent, lossy", "webp", encode(clear, "WEBP", quality=90), red),
        Wild("webp: transparent, extended", "webp", lossless, red),
        Wild("webp: transparent, extended, lossless, no alpha flag", "webp", without_alpha_flag(lossless), red),
        Wild("webp: transparent, extended, lossy, no alpha flag", "webp", without_alpha_flag(lossy), opaque),
    ]


def turned_webps() -> list[Wild]:
    """Turned by EXIF as the other kinds are. Chromium shows a WebP as it is stored."""
    return [
        Wild(
            f"webp: turned by {orientation}, {order}{prefix[:4].decode()}",
            "webp",
            data,
            encode(scene(), "PNG"),
            browser=False,
        )
        for orientation in UNDO
        for order in "<>"
        for prefix in (b"", b"Exif\0\0")
        for block_ in [prefix + exif(orientation, order)]
        for data in [encode(scene().transpose(UNDO[orientation]), "WEBP", quality=92, exif=block_)]
    ]
