"""Png: the chunks of a PNG that make its pixels and no others, so that broken metadata refuse no sound picture.

All rows or none: a file that holds every row is whole, with or without its checksums and its end mark, and one that
does not is refused. Nothing is inflated further than the pixels need.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, ImageFile

from models.errors import UndecodableImage
from models.pictures.limits import Header

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 100_000
_PIECE = 1 << 20
_LARGEST_PROFILE = 4 << 20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_GREY, _RGB = 0, 2
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
# Adam7: first column, first row, and the steps between, of each pass.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True, slots=True)
class Form:
    """The header chunk. depth: bits of a sample; colour: the type's number."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    def chunk(self) -> bytes:
        return _chunk(b"IHDR", struct.pack(">IIBBBBB", *self.size, self.depth, self.colour, 0, 0, self.interlaced))

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def stored(self) -> int:
        """Bytes of all rows, each with the one that names its filter."""
        bits = self.depth * _CHANNELS.get(self.colour, 4)
        total = 0
        for left, top, across, down in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            columns, rows = -(-max(0, self.width - left) // across), -(-max(0, self.height - top) // down)
            total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
        return total


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture in the file: its place on the canvas, and the pieces of its compressed rows."""

    form: Form
    left: int
    top: int
    pieces: tuple[memoryview, ...]


@dataclass(frozen=True, slots=True)
class Png:
    """form: of the canvas. frame: what browsers show first. colours: PLTE and tRNS. ended: the end mark was found."""

    header: Header
    form: Form
    frame: Frame
    colours: bytes
    key: bytes
    ended: bool
    exif: bytes
    compressed_profile: bytes

    @property
    def profile(self) -> bytes:
        inflate = zlib.decompressobj()
        try:
            found = inflate.decompress(self.compressed_profile, _LARGEST_PROFILE)
        except zlib.error:
            return b""
        return found if inflate.eof else b""

    def load(self, size: tuple[int, int]) -> Image.Image:
        """The canvas in full size, what it lets through transparent. Raises UndecodableImage and what Pillow does."""
        image = self._frame_image()
        if image.size == self.form.size:
            return image
        canvas = Image.new("RGBA", self.form.size)
        canvas.paste(image.convert("RGBA"), (self.frame.left, self.frame.top))
        return canvas

    def _frame_image(self) -> Image.Image:
        pieces = self.frame.pieces
        if not self.ended:
            pieces = self._complete_rows()
        try:
            image = self._decoded(pieces)
        except (OSError, SyntaxError, ValueError):
            # The checksum at the end of the compressed rows may be all that is wrong.
            pieces = self._complete_rows()
            image = self._decoded(pieces)
        if self.ended and (self.form.interlaced or _is_blank(image.crop((0, image.height - 1, *image.size)))):
            self._complete_rows()
        return self._keyed(image, pieces)

    def _decoded(self, pieces: tuple[memoryview, ...], *, low_bytes: bool = False) -> Image.Image:
        parts: list[bytes | memoryview] = [SIGNATURE, self.frame.form.chunk(), self.colours]
        # Pillow does not look at the checksums of rows.
        for piece in pieces:
            parts += [struct.pack(">I4s", len(piece), b"IDAT"), piece, bytes(4)]
        parts.append(_chunk(b"IEND", b""))
        image = Image.open(io.BytesIO(b"".join(parts)), formats=["PNG"])
        if low_bytes:
            assert isinstance(image, ImageFile.ImageFile)
            image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
        image.load()
        return image

    def _keyed(self, image: Image.Image, pieces: tuple[memoryview, ...]) -> Image.Image:
        """The same with the one transparent colour of a tRNS chunk, which Pillow does not scale, as alpha."""
        depth, colour = self.form.depth, self.form.colour
        if colour == _GREY and len(self.key) >= 2:
            (level,) = struct.unpack_from(">H", self.key)
            values = np.asarray(image)
            if depth < 8:
                level = level * 255 // (2**depth - 1)
                values = np.asarray(image.convert("L"))
            opaque = values != level
            grey = (values >> 8).astype(np.uint8) if depth == 16 else values
            return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(opaque.astype(np.uint8) * 255)))
        if colour == _RGB and depth == 16 and len(self.key) >= 6:
            low = np.asarray(self._decoded(pieces, low_bytes=True))
            key = np.frombuffer(self.key[:6], np.uint8)
            opaque = (np.asarray(image.convert("RGB")) != key[::2]).any(axis=2) | (low != key[1::2]).any(axis=2)
            image = image.convert("RGB")
            image.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
        return image

    def _complete_rows(self) -> tuple[memoryview, ...]:
        """The pieces up to the end of the rows, without the checksum behind. Raises UndecodableImage if rows lack."""
        missing = self.frame.form.stored()
        inflate = zlib.decompressobj(-15)
        kept: list[memoryview] = []
        skipped = 0
        for piece in self.frame.pieces:
            data = piece[max(0, 2 - skipped) :]  # the zlib header
            skipped += len(piece) - len(data)
            try:
                while len(data) and missing > 0 and not inflate.eof:
                    missing -= len(inflate.decompress(data, _PIECE))
                    data = memoryview(inflate.unconsumed_tail)
            except zlib.error as error:
                raise UndecodableImage("the PNG is damaged: its rows cannot be inflated") from error
            kept.append(piece[: len(piece) - len(inflate.unused_data)])
            if missing <= 0 or inflate.eof:
                break
        while missing > 0 and not inflate.eof:
            more = inflate.decompress(inflate.unconsumed_tail, _PIECE)
            if not more:
                break
            missing -= len(more)
        if missing > 0:
            raise UndecodableImage("the PNG is cut short: rows are missing")
        return tuple(kept)


def _is_blank(image: Image.Image) -> bool:
    return image.getbbox(alpha_only=False) is None


@dataclass(frozen=True, slots=True)
class Chunk:
    """kind, its body as far as it is there, and the checksum behind it."""

    kind: bytes
    body: memoryview
    checksum: memoryview

    @property
    def intact(self) -> bool:
        return self.checksum == struct.pack(">I", zlib.crc32(self.body, zlib.crc32(self.kind)))


def chunks(data: memoryview) -> Iterator[Chunk]:
    """All chunks to the end mark, or as far as there are any. Raises UndecodableImage where they are too many."""
    position = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        if not kind.isalpha():
            return
        end = position + 8 + length
        yield Chunk(kind, data[position + 8 : end], data[end : end + 4])
        if kind == b"IEND":
            return
        position = end + 4
    raise UndecodableImage("the PNG is damaged: it has too many chunks")


@dataclass(slots=True)
class _Animation:
    """The frame that comes first where the still picture is no part of the animation. frames: 0 where there is none."""

    frames: int = 0
    still_is_first: bool = False
    place: tuple[int, int, int, int] | None = None
    pieces: list[memoryview] = field(default_factory=list)
    complete: bool = False

    def control(self, body: memoryview, still_seen: bool) -> None:
        """Takes an fcTL chunk: width, height, left, top."""
        if not still_seen:
            self.still_is_first = True
        elif self.place is not None:
            self.complete = True
        elif len(body) >= 20:
            self.place = struct.unpack_from(">IIII", body, 4)

    def first(self, canvas: Form) -> Frame | None:
        """The frame, if there is one that browsers show instead of the still picture."""
        if not self.frames or self.still_is_first or self.place is None or not self.pieces:
            return None
        width, height, left, top = self.place
        if not width or not height or left + width > canvas.width or top + height > canvas.height:
            return None
        return Frame(replace(canvas, width=width, height=height), left, top, tuple(self.pieces))


def parse(data: memoryview) -> Png:
    """Raises UndecodableImage where the first chunk is no header."""
    form: Form | None = None
    animation = _Animation()
    colours: list[bytes] = []
    still: list[memoryview] = []
    key = exif = profile = b""
    ended = False
    for chunk in chunks(data):
        kind, body = chunk.kind, chunk.body
        if kind in (b"IHDR", b"PLTE") and not chunk.intact:
            raise UndecodableImage("the PNG is damaged or cut short: its header has a wrong checksum")
        if kind[:1].isupper() and kind not in _CRITICAL:
            raise UndecodableImage("the PNG is damaged: it has a chunk that no PNG has")
        if (kind == b"IHDR") != (form is None):
            raise UndecodableImage("the PNG is damaged: its header is not where it belongs")
        if form is None:
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            form = Form(width, height, depth, colour, interlaced == 1)
        elif kind == b"IDAT":
            still.append(body)
        elif kind == b"PLTE" and not still:
            colours.append(_chunk(kind, _palette(bytes(body), form.depth)))
        elif kind == b"tRNS" and not still and chunk.intact:
            key = bytes(body)
            colours.append(_chunk(kind, key))
        elif kind == b"acTL" and len(body) >= 4 and not still:
            (animation.frames,) = struct.unpack_from(">I", body)
        elif kind == b"fcTL":
            animation.control(body, bool(still))
        elif kind == b"fdAT" and not animation.complete:
            animation.pieces.append(body[4:])
        elif kind == b"eXIf":
            exif = bytes(body)
        elif kind == b"iCCP" and not still:
            profile = _compressed_profile(bytes(body))
        ended = kind == b"IEND"
    if form is None or not still:
        raise UndecodableImage("the PNG is cut short: it has no rows")
    header = Header("png", form.width, form.height, frames=max(1, animation.frames))
    frame = animation.first(form) or Frame(form, 0, 0, tuple(still))
    return Png(header, form, frame, b"".join(colours), key, ended, exif, profile)


def _palette(body: bytes, depth: int) -> bytes:
    """A palette with a colour for every value: browsers show the last one for those that have none."""
    count = len(body) // 3
    return body[: 3 * count] + body[3 * count - 3 : 3 * count] * ((1 << min(depth, 8)) - count)


def _compressed_profile(body: bytes) -> bytes:
    """What follows the name and the number of the compression."""
    return body.partition(b"\0")[2][1:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
