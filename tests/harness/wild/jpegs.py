"""JPEGs as they come, whole ones and ones that break off."""

from __future__ import annotations

import re
import struct

from PIL import Image, ImageChops

from tests.harness.wild.case import UNDO, Options, Wild, encode, exif, scene, xmp

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def markers(data: bytes) -> list[tuple[int, int]]:
    """Marker and position of every segment of a sound JPEG, its end mark included."""
    found = []
    position = 2
    while match := _MARKER.search(data, position):
        position = match.start()
        found.append((data[position + 1], position))
        if data[position + 1] == 0xD9:
            break
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return found


def place(data: bytes, marker: int, which: int = 0) -> int:
    """Where the first (or last: −1) segment of that kind starts."""
    return [position for kind, position in markers(data) if kind == marker][which]


def inserted(data: bytes, position: int, more: bytes) -> bytes:
    return data[:position] + more + data[position:]


def sound() -> list[Wild]:
    plain = encode(scene(), "JPEG", quality=92)
    grey = encode(scene().convert("L"), "JPEG", quality=92)
    progressive = encode(scene(), "JPEG", quality=92, progressive=True)
    restarts = encode(scene(), "JPEG", quality=92, restart_marker_rows=2)
    tables, frame, huffman, scan = (place(plain, marker) for marker in (0xDB, 0xC0, 0xC4, 0xDA))
    ink = encode(scene().convert("CMYK"), "JPEG", quality=92)
    exif_1 = segment(0xE1, b"Exif\0\0" + exif(1))
    found = {
        "junk of one byte before the tables": inserted(plain, tables, b"\0"),
        "junk behind the start mark": inserted(plain, 2, b"\xff\0"),
        "junk of FF 00 FF 00": inserted(plain, tables, b"\xff\0\xff\0"),
        "junk before the frame header": inserted(plain, frame, b"\0\1\2\3\4\5"),
        "junk before the Huffman tables": inserted(plain, huffman, bytes(40)),
        "junk before the scan": inserted(plain, scan, b"junk"),
        "junk of text before every segment": b"".join(
            plain[start:stop] + b"\n"
            for start, stop in zip([0, tables, frame, huffman], [tables, frame, huffman, scan], strict=True)
        )
        + plain[scan:],
        "fill bytes before the frame header": inserted(plain, frame, b"\xff" * 7),
        "a restart mark between segments": inserted(plain, frame, b"\xff\xd0"),
        "an APP1 length 4 too short": inserted(plain, 2, b"\xff\xe1\0\x14" + b"x" * 22),
        "a comment length 1 too short": inserted(plain, tables, b"\xff\xfe\0\x0a" + b"a comment"),
        "a comment length 2 too long, stray bytes behind": inserted(plain, tables, segment(0xFE, b"a comment..")),
        "an APP2 length of 2": inserted(plain, tables, b"\xff\xe2\0\2"),
        "an APP0 of 5 bytes": plain[:2] + segment(0xE0, b"JFIF\0") + plain[20:],
        "an APP0 of 2 bytes": plain[:2] + segment(0xE0, b"JF") + plain[20:],
        "an APP0 of 12 bytes": plain[:2] + segment(0xE0, plain[6:18]) + plain[20:],
        "no APP0": plain[:2] + plain[20:],
        "an APP14 of 5 bytes": plain[:2] + segment(0xEE, b"Adobe") + plain[20:],
        "an APP14 of 11 bytes": plain[:2] + segment(0xEE, b"Adobe\0\x64\0\0\0\0") + plain[20:],
        "an APP13 of 3 bytes": inserted(plain, tables, segment(0xED, b"Pho")),
        "an APP13 that says Photoshop and breaks off": inserted(
            plain, tables, segment(0xED, b"Photoshop 3.0\x008BIM\4\4")
        ),
        "EXIF that is none": inserted(plain, 2, segment(0xE1, b"Exif\0\0" + b"garbage" * 5)),
        "EXIF that breaks off": inserted(plain, 2, segment(0xE1, b"Exif\0\0" + exif(6)[:12])),
        "EXIF whose entries point past its end": inserted(
            plain, 2, segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(20))
        ),
        "EXIF with an orientation of 9": inserted(plain, 2, segment(0xE1, b"Exif\0\0" + exif(9))),
        "XMP that turns by 6": inserted(plain, 2, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))),
        "XMP that turns by 3 behind EXIF of 1": inserted(
            plain, 2, exif_1 + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(3))
        ),
        "XMP that is none": inserted(plain, 2, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmp")),
        "MPF that is none": inserted(plain, 2, segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff")),
        "a colour profile that is none": inserted(plain, 2, segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(200))),
        "a colour profile whose second part is missing": inserted(
            plain, 2, segment(0xE2, b"ICC_PROFILE\0\1\2" + bytes(200))
        ),
        "no end mark": plain[:-2],
        "half an end mark": plain[:-1],
        "zeros for an end mark": plain[:-2] + bytes(300),
        "FF at the end": plain[:-2] + b"\xff\xff\xff",
        "bytes behind the end mark": plain + b"appended" * 9,
        "a second picture behind the end mark": plain + grey,
        "a second picture that breaks off behind the end mark": plain + grey[:900],
        "two end marks": plain + b"\xff\xd9",
        "restart marks": restarts,
        "restart marks, no end mark": restarts[:-2],
        "grey, no end mark": grey[:-2],
        "progressive": progressive,
        "progressive, no end mark": progressive[:-2],
        "progressive, junk between scans": inserted(progressive, place(progressive, 0xDA, -1), b"\0\1\2"),
        "optimised, 4:4:4": encode(scene(), "JPEG", quality=92, subsampling=0, optimize=True),
    }
    plains = {name: grey for name in found if name.startswith("grey")}
    plains |= {name: progressive for name in found if name.startswith("progressive")}
    files = [Wild(f"jpeg: {name}", "jpeg", data, plains.get(name, plain)) for name, data in found.items()]
    files += [
        # Chromium leaves the last row of blocks white, which is most of a low picture.
        Wild(f"jpeg: no end mark, {width} × {height}", "jpeg", whole[:-2], whole, browser=height > 100)
        for width, height in SIZES
        for whole in [encode(scene(width, height), "JPEG", quality=85)]
    ]
    marker = ink.index(b"Adobe") - 4
    without = ink[:marker] + ink[marker + 2 + struct.unpack_from(">H", ink, marker + 2)[0] :]
    files += [
        Wild("jpeg: CMYK", "jpeg", ink, encode(scene(), "PNG")),
        Wild("jpeg: CMYK without Adobe's mark", "jpeg", without, encode(scene(), "PNG")),
        Wild("jpeg: YCCK", "jpeg", ycck(scene()), encode(scene(), "PNG")),
        Wild("jpeg: a scan for each channel", "jpeg", scan_by_scan(scene()), encode(scene(), "PNG")),
        # Of this Chromium shows nothing, though everything is there.
        Wild(
            "jpeg: a scan for each channel, no end mark",
            "jpeg",
            scan_by_scan(scene())[:-2],
            encode(scene(), "PNG"),
            False,
        ),
    ]
    return files


def ycck(picture: Image.Image) -> bytes:
    """Brightness, two colour differences and black, as Photoshop writes it. Inks are stored inverted."""
    channels = ImageChops.invert(picture).convert("YCbCr").split()
    inks = [*(ImageChops.invert(each) for each in channels), Image.new("L", picture.size, 0)]
    data = encode(Image.merge("CMYK", inks), "JPEG", quality=95, subsampling=0)
    transform = data.index(b"Adobe") + 11
    return data[:transform] + b"\2" + data[transform + 1 :]


def scan_by_scan(picture: Image.Image) -> bytes:
    """A sequential JPEG whose channels come one after the other."""
    channels = [encode(each, "JPEG", quality=92) for each in picture.convert("YCbCr").split()]
    grey = channels[0]
    start, stop = place(grey, 0xC0), place(grey, 0xC4)
    frame = segment(0xC0, grey[start + 4 : start + 9] + bytes((3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0)))
    scans = []
    for number, data in enumerate(channels, 1):
        scan = place(data, 0xDA)
        scans.append(segment(0xDA, bytes((1, number, 0, 0, 63, 0))) + data[scan + 10 : place(data, 0xD9)])
    return grey[:start] + frame + grey[stop : place(grey, 0xDA)] + b"".join(scans) + b"\xff\xd9"


# 24 sizes: whole and partial blocks each way.
SIZES = [(width, height) for width in (311, 320, 97, 641) for height in (247, 240, 64, 129, 200, 8)]


def short_jpegs() -> list[Wild]:
    """Scan data are missing, with and without an end mark behind what is left."""
    files = []
    forms: dict[str, Options] = {
        "sequential": {},
        "progressive": {"progressive": True},
        "4:4:4": {"subsampling": 0},
        "restart marks": {"restart_marker_rows": 1},
        "progressive, restart marks": {"progressive": True, "restart_marker_rows": 1},
    }
    for name, options in forms.items():
        whole = encode(scene(), "JPEG", quality=92, **options)
        last = place(whole, 0xDA, -1)
        end = place(whole, 0xD9)
        cuts = {f"{missing} bytes missing": end - missing for missing in (12, 100, 400)}
        cuts["inside the last scan"] = (last + 14 + end) // 2
        cuts["a tenth missing"] = end - (end - last) // 10
        for cut, position in cuts.items():
            left = whole[:position].removesuffix(b"\xff")
            for closing, tail in {
                "": b"",
                ", closed": b"\xff\xd9",
                ", zeros": bytes(500),
                ", closed, more": b"\xff\xd9" + bytes(500),
            }.items():
                files.append(Wild(f"jpeg: {name}, {cut}{closing}", "jpeg", left + tail, whole))
        files.append(Wild(f"jpeg: {name}, no scan data", "jpeg", whole[: last + 14] + b"\xff\xd9", whole))
        files.append(Wild(f"jpeg: {name}, no scan", "jpeg", whole[: place(whole, 0xDA)] + b"\xff\xd9", whole))
    channels = scan_by_scan(scene())
    last = place(channels, 0xDA, -1)
    for cut, position in {"inside the last": (last + len(channels)) // 2, "before the last": last}.items():
        data = channels[:position].removesuffix(b"\xff") + b"\xff\xd9"
        files.append(Wild(f"jpeg: a scan for each channel, cut {cut}", "jpeg", data, channels))
    whole = encode(scene(), "JPEG", quality=92, progressive=True)
    files += [
        Wild(f"jpeg: progressive, {count} scans missing", "jpeg", whole[:cut] + b"\xff\xd9", whole)
        for count in (1, 3)
        for cut in [place(whole, 0xDA, -count)]
    ]
    return files


def turned_jpegs() -> list[Wild]:
    """Turned by EXIF, in either order of bytes."""
    return [
        Wild(f"jpeg: turned by {orientation}, {order}", "jpeg", data, encode(scene(), "PNG"))
        for orientation in UNDO
        for order in "<>"
        for stored in [encode(scene().transpose(UNDO[orientation]), "JPEG", quality=92)]
        for data in [inserted(stored, 2, segment(0xE1, b"Exif\0\0" + exif(orientation, order)))]
    ]
