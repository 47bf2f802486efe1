"""ICC profiles made from nothing: RGB spaces by their primaries, grey by its curve, CMYK by a coarse table."""

from __future__ import annotations

import struct
from collections.abc import Sequence

# Red, green and blue of each space in XYZ, adapted to D50; from the specifications' chromaticities.
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00008, 0.82521))
WHITE = (0.9642, 1.0, 0.8249)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(value) for value in values)


def _curve(gamma: float | None) -> bytes:
    """A power, or the curve of sRGB."""
    if gamma is None:
        parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        return b"para\0\0\0\0\0\3\0\0" + b"".join(_fixed(value) for value in parameters)
    return b"para\0\0\0\0\0\0\0\0" + _fixed(gamma)


def _profile(space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    named = {
        b"desc": b"mluc\0\0\0\0\0\0\0\1\0\0\0\x0cenUS\0\0\0\x08\0\0\0\x1c\0t\0e\0s\0t",
        b"cprt": b"mluc\0\0\0\0\0\0\0\1\0\0\0\x0cenUS\0\0\0\x08\0\0\0\x1c\0n\0o\0n\0e",
        b"wtpt": _xyz(WHITE),
        **tags,
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(named)
    for name, data in named.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"\0\0\0\0", 0x04000000, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + b"".join(_fixed(value) for value in WHITE)
    return head.ljust(128, b"\0") + struct.pack(">I", len(named)) + table + body


def rgb(primaries: Sequence[Sequence[float]], gamma: float | None = None) -> bytes:
    """gamma: None for the curve of sRGB."""
    colours = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), (_xyz(each) for each in primaries), strict=True))
    return _profile(b"RGB ", b"mntr", b"XYZ ", colours | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma)))


def grey(gamma: float) -> bytes:
    return _profile(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk() -> bytes:
    """A printer whose inks are duller than the naive ones. The table has the corners of the space alone, in Lab."""
    inks = {0: (55, -36, -48), 1: (48, 72, -5), 2: (88, -6, 92)}
    table = b""
    for corner in range(16):
        on = [corner >> 3 & 1, corner >> 2 & 1, corner >> 1 & 1]
        light, a, b = 95.0, 0.0, 0.0
        for ink, there in enumerate(on):
            if there:
                light, a, b = light * inks[ink][0] / 100, a + inks[ink][1] * 0.8, b + inks[ink][2] * 0.8
        if corner & 1:
            light, a, b = light * 0.15, a * 0.1, b * 0.1
        table += bytes((round(light * 2.55), round(max(0, min(255, a + 128))), round(max(0, min(255, b + 128)))))
    identity = b"".join(_fixed(float(row == column)) for row in range(3) for column in range(3))
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + table + ramp * 3
    return _profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": lut})
