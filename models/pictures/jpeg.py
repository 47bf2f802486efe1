"""Jpeg: the segments that libjpeg makes pixels of and no others, so that broken metadata refuse no sound picture.

Bytes that stray between two segments are skipped, as every viewer does. Scan data that end before the last pixel are
refused whatever follows them: libjpeg fills the rest with grey and only warns, which Pillow does not pass on, so
`load` feeds it the scan data first, and their end only once it has read all it needs.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageChops, ImageFile

from models.errors import UndecodableImage
from models.pictures.limits import Header

# Behind FF, scan data have only 00 and restart marks (D0 to D7); between segments these are skipped as well.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_SCANS = re.compile(rb"\xff\xda")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_START, _END, _SCAN, _INTERVAL, _BARE = 0xD8, 0xD9, 0xDA, 0xDD, 0x01
_TABLES = frozenset({0xDB, 0xC4, 0xCC, _INTERVAL})  # DQT, DHT, DAC, DRI
# Frame headers: all SOFn but DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_MAX_SEGMENTS = 100_000
_COEFFICIENTS = 64
# libjpeg reads an APP0 from 14 bytes on and an APP14 from 12 on; in shorter ones viewers see nothing.
_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_JFIF_LENGTH, _ADOBE_LENGTH = 14, 12
# A byte of ones, as scan data have it. libjpeg reads up to eight bytes ahead of what it uses; while it decodes it takes
# them six at a time at least, so two that it takes one after the other are skipped as strays behind complete data.
_AHEAD = b"\xff\0"
_STEPS = 10
# Scan data that end in more zeros than this and have no end mark were never written to their end.
_UNWRITTEN = 16


@dataclass(frozen=True, slots=True)
class Jpeg:
    """head: from the start mark to the first scan. scans: from there to the end of the last one, all that they hold.

    closed: whether a marker follows. whole_file: libjpeg reads all scans before the first pixel. missing: not every
    coefficient of every channel has its scan, or the last scan ends at one of its restart marks.
    """

    header: Header
    head: bytes
    scans: memoryview
    closed: bool
    whole_file: bool
    arithmetic: bool
    missing: bool
    exif: bytes
    profile: bytes

    def load(self, size: tuple[int, int]) -> Image.Image:
        """The pixels, shrunk by 2, 4 or 8 where they still cover `size`. Raises UndecodableImage, what Pillow does."""
        if self.missing:
            raise UndecodableImage("the JPEG is cut short: scans are missing")
        if not self.closed and not self.arithmetic:
            # Where no mark says that the data end here, what is read ahead must not change a pixel.
            one, other = (self._decoded(None, ahead) for ahead in (_AHEAD, b"\0\x5a"))
            if ImageChops.difference(one, other).getbbox() is not None:
                raise UndecodableImage("the JPEG is cut short: its last rows are missing")
        return self._decoded(size, _AHEAD)

    def _decoded(self, size: tuple[int, int] | None, ahead: bytes) -> Image.Image:
        with io.BytesIO(b"".join((self.head, self.scans[:1024]))) as start:
            image = Image.open(start, formats=["JPEG"])
        assert isinstance(image, ImageFile.ImageFile)
        if image.size != (self.header.width, self.header.height):
            raise UndecodableImage("the JPEG is damaged: it has two sizes")
        image.draft(None, size)
        image.load_prepare()
        (tile,) = image.tile
        # What Image.load does, but for the order in which the data are fed.
        decoder = Image._getdecoder(image.mode, tile.codec_name, tile.args, image.decoderconfig)
        try:
            decoder.setimage(image.im, tile.extents)
            self._feed(decoder, ahead)
        finally:
            decoder.cleanup()
        image.tile = []
        return image

    def _feed(self, decoder: Any, ahead: bytes) -> None:
        data = b"".join((self.head, self.scans))
        if self.arithmetic:  # its decoder cannot wait for data
            _finish(*decoder.decode(data + b"\xff\xd9"))
            return
        taken, error = decoder.decode(data)
        idle = steps = 0
        while taken >= 0 and steps < _STEPS and idle < 2:
            data = data[taken:] + ahead
            taken, error = decoder.decode(data)
            idle = idle + 1 if taken == len(data) else 0
            steps += 1
        if taken >= 0 and self.whole_file and idle == 2:
            taken, error = decoder.decode(b"\xff\xd9")
        _finish(taken, error)


def _finish(taken: int, error: int) -> None:
    if error < 0:
        raise UndecodableImage("the JPEG is damaged")
    if taken >= 0:
        raise UndecodableImage("the JPEG is cut short: its last rows are missing")


@dataclass(slots=True)
class _Channel:
    """across, down: its blocks in one unit of interleaved data. got: coefficients that have come to their last bit."""

    across: int
    down: int
    got: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Reading:
    """What is known after the segments before `position`.

    first: where the first scan starts; last: where the data of the last one start; end: where they end. interval: units
    between two restart marks; restarts: marks that the last scan must have.
    """

    data: memoryview
    position: int = 2
    first: int = 0
    last: int = 0
    end: int = 0
    closed: bool = False
    frame: int = 0
    width: int = 0
    height: int = 0
    channels: dict[int, _Channel] = field(default_factory=dict)
    interval: int = 0
    jfif: bytes = b""
    adobe: bytes = b""
    tables: list[memoryview] = field(default_factory=list)
    exif: bytes = b""
    profile: dict[int, bytes] = field(default_factory=dict)
    scans: int = 0
    whole_file: bool = False
    restarts: int = 0

    def step(self) -> bool:
        """Reads one segment; False at the end of the picture. Raises UndecodableImage."""
        found = _MARKER.search(self.data, self.position)
        start = found.start() if found else len(self.data)
        marker = self.data[start + 1] if found else _END
        self.position = start + 2
        if marker == _BARE:
            return True
        if marker in (_START, _END) or (self.scans and not self.whole_file):
            self.end, self.closed = start, found is not None
            return False
        length = (
            max(2, *struct.unpack(">H", self.data[start + 2 : start + 4])) if start + 4 <= len(self.data) else 2**16
        )
        self.position += length
        if self.position > len(self.data):
            if not self.scans:
                raise UndecodableImage("the JPEG is cut short")
            self.end = len(self.data)
            return False
        try:
            self._take(marker, start, self.data[start + 4 : self.position])
        except (struct.error, IndexError, ValueError) as error:
            raise UndecodableImage("the JPEG is damaged: a segment is too short") from error
        return True

    def _take(self, marker: int, start: int, body: memoryview) -> None:
        if (marker in _TABLES or marker in _FRAMES) and not self.scans:
            self.tables.append(self.data[start : self.position])
        if marker == _SCAN:
            self.scan(body)
            self.first, self.last = self.first or start, self.position
        elif marker in _FRAMES:
            self.sizes(marker, body)
        elif marker == _INTERVAL:
            (self.interval,) = struct.unpack_from(">H", body)
        else:
            self.metadata(marker, body)

    def metadata(self, marker: int, body: memoryview) -> None:
        start = bytes(body[:14])
        if marker == 0xE0 and start.startswith(b"JFIF\0") and len(body) >= _JFIF_LENGTH:
            self.jfif = _JFIF
        elif marker == 0xEE and start.startswith(b"Adobe") and len(body) >= _ADOBE_LENGTH:
            self.adobe = b"\xff\xee\0\x0e" + start[:_ADOBE_LENGTH]
        elif marker == 0xE1 and start.startswith(b"Exif\0\0") and not self.exif:
            self.exif = bytes(body)
        elif marker == 0xE2 and start.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            self.profile[start[12]] = bytes(body[14:])

    def sizes(self, marker: int, body: memoryview) -> None:
        if self.frame:
            raise UndecodableImage("the JPEG is damaged: it has two frame headers")
        self.frame = marker
        self.height, self.width = struct.unpack_from(">HH", body, 1)
        for at in range(6, 6 + 3 * body[5], 3):
            self.channels[body[at]] = _Channel(max(1, body[at + 1] >> 4), max(1, body[at + 1] & 15))

    def scan(self, body: memoryview) -> None:
        if not self.frame:
            raise UndecodableImage("the JPEG is damaged: it has no frame header")
        self.scans += 1
        count = body[0]
        names = [name for name in body[1 : 1 + 2 * count : 2] if name in self.channels]
        first, last, bits = body[1 + 2 * count : 4 + 2 * count]
        if self.scans == 1:
            self.whole_file = self.frame in _PROGRESSIVE or count < len(self.channels)
        for name in names:
            if self.frame not in _PROGRESSIVE:
                self.channels[name].got.update(range(_COEFFICIENTS))
            elif bits & 15 == 0:
                self.channels[name].got.update(range(first, last + 1))
        self.restarts = max(0, self._units(names) - 1) // self.interval if self.interval else 0

    def _units(self, names: list[int]) -> int:
        """How many pieces of scan data there are between restart marks that are as dense as they can be."""
        widest = max(each.across for each in self.channels.values())
        highest = max(each.down for each in self.channels.values())
        if len(names) == 1:
            only = self.channels[names[0]]
            width, height = -(-self.width * only.across // widest), -(-self.height * only.down // highest)
            return -(-width // 8) * -(-height // 8)
        return -(-self.width // (8 * widest)) * -(-self.height // (8 * highest))


def outline(data: memoryview) -> Header:
    """Size and scans, without looking for the end of the data. Raises UndecodableImage."""
    reading = _Reading(data)
    for _ in range(_MAX_SEGMENTS // 100):
        if reading.scans or not reading.step():
            break
    scans = len(_SCANS.findall(data)) if reading.whole_file else 1
    return Header("jpeg", reading.width, reading.height, scans=scans)


def parse(data: memoryview) -> Jpeg:
    """Raises UndecodableImage where the structure does not lead to scan data of a picture."""
    reading = _Reading(data)
    for _ in range(_MAX_SEGMENTS):
        if not reading.step():
            break
    else:
        raise UndecodableImage("the JPEG is damaged: it has too many segments")
    if not reading.scans:
        raise UndecodableImage("the JPEG is damaged or cut short: it has no pixels")
    end = reading.end if reading.closed else _written(data, reading.end)
    restarts = len(_RESTART.findall(data[reading.last : end])) if reading.restarts else 0
    incomplete = any(len(each.got) < _COEFFICIENTS for each in reading.channels.values())
    return Jpeg(
        Header("jpeg", reading.width, reading.height, scans=reading.scans),
        b"".join((b"\xff\xd8", reading.jfif, reading.adobe, *reading.tables)),
        data[reading.first : end],
        reading.closed,
        reading.whole_file,
        reading.frame in _ARITHMETIC,
        incomplete or restarts < reading.restarts,
        reading.exif,
        b"".join(reading.profile[number] for number in sorted(reading.profile)),
    )


def _written(data: memoryview, end: int) -> int:
    """Where data without an end mark end: before zeros that were never written, and before half a mark."""
    tail = bytes(data[max(0, end - 2**16) : end])
    if len(tail) - len(tail.rstrip(b"\0")) >= _UNWRITTEN:
        while end and not any(data[max(0, end - 2**16) : end]):
            end = max(0, end - 2**16)
        tail = bytes(data[max(0, end - 2**16) : end])
        end -= len(tail) - len(tail.rstrip(b"\0"))
    while end and data[end - 1] == 0xFF:
        end -= 1
    return end
