"""Of a PNG only what makes its pixels counts: a broken profile, text or time stamp refuses no sound picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from models.errors import UndecodableImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What decides the pixels of the default image; animation chunks do not.
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_MAX_CHUNKS = 100_000
_PIECE = 1 << 20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: first column, first row, and the steps between, of each pass.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: kind, where it starts (its length field), where its body starts and ends."""

    kind: bytes
    start: int
    body: int
    end: int


def chunks(data: memoryview) -> Iterator[Chunk]:
    """All chunks to the end mark. Raises UndecodableImage where there is none or the first is no header."""
    position = len(SIGNATURE)
    for index in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, position)
        chunk = Chunk(kind, position, position + 8, position + 8 + length)
        if (kind == b"IHDR") != (index == 0):
            raise UndecodableImage("the PNG is damaged: its header is not where it belongs")
        position = chunk.end + 4
        if position > len(data):
            break
        yield chunk
        if kind == b"IEND":
            return
    raise UndecodableImage("the PNG is damaged or cut short")


def bare(data: memoryview) -> tuple[bytes, bytes]:
    """The same picture with nothing but its pixels, and the body of its eXIf chunk (empty where it has none)."""
    parts: list[bytes | memoryview] = [SIGNATURE]
    exif = b""
    for chunk in chunks(data):
        if chunk.kind in _PIXELS:
            parts.append(data[chunk.start : chunk.end + 4])
        elif chunk.kind == b"eXIf":
            exif = bytes(data[chunk.body : chunk.end])
    return b"".join(parts), exif


def is_interlaced(data: memoryview) -> bool:
    return data[28] == 1


def check_rows(data: memoryview) -> None:
    """Raises UndecodableImage unless the compressed data hold every row. Inflates all of it, a megabyte at a time."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _CHANNELS.get(colour, 4)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    missing = 0
    for left, top, across, down in passes:
        columns, rows = -(-max(0, width - left) // across), -(-max(0, height - top) // down)
        missing += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    inflate = zlib.decompressobj()
    for chunk in chunks(data):
        piece: bytes | memoryview = data[chunk.body : chunk.end] if chunk.kind == b"IDAT" else b""
        while piece and missing > 0:
            missing -= len(inflate.decompress(piece, _PIECE))
            piece = inflate.unconsumed_tail
    if missing > len(inflate.flush()):
        raise UndecodableImage("the PNG is cut short: rows are missing")
