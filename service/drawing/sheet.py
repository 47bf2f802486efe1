"""A contact sheet: rows of pictures with a name and a figure below each, as one PNG.

    sheet([Row(Cell(query, "photo.jpg", tone="key"), [Cell(thumbnail, "shoe-7", ".873"), …])], title="…")

A row has a picture that asks (`head`; a query, a medoid) or none (a group of duplicates), and goes on in further lines
where it has more pictures than fit.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw, UnidentifiedImageError

from service.drawing import colours
from service.drawing.fonts import Fonts

# key: what is asked; good, bad: a frame in their colour; faint: greyed, as what is no match.
Tone = Literal["plain", "key", "good", "bad", "faint"]

MAX_CELLS = 5_000  # of one sheet: 250 megapixels at the largest side would be the limit of many viewers
MAX_SIDE = 256
FRAMES = {"key": colours.KEY, "good": colours.GOOD, "bad": colours.BAD}

_GAP, _EDGE, _HEAD_GAP = 12, 20, 28
_NAME, _NOTE, _TITLE = 13, 12, 21


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture. picture: the bytes of a thumbnail as the service makes them; None: there is none, which is drawn.

    name, note: a line each below it, cut in the middle where they are too long.
    """

    picture: bytes | None
    name: str
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Row:
    """head: left of the others, apart. title: a line above the row."""

    head: Cell | None
    cells: Sequence[Cell]
    title: str = ""


def sheet(rows: Sequence[Row], *, title: str = "", note: str = "", columns: int = 6, side: int = 160) -> bytes:
    """A PNG. columns: pictures in a line beside the head; side: pixels of a picture's longer side, 32 to MAX_SIDE.

    Raises ValueError for more than MAX_CELLS pictures: whoever has more shows the first ones and says so.
    """
    if not 32 <= side <= MAX_SIDE or columns < 1:
        raise ValueError(f"side {side} and columns {columns}: expected 32 to {MAX_SIDE}, and at least 1")
    if sum(len(row.cells) + 1 for row in rows) > MAX_CELLS:
        raise ValueError(f"more than {MAX_CELLS:,} pictures on one sheet")
    widest = max((len(row.cells) for row in rows), default=0)
    columns = max(1, min(columns, widest))
    left = side + _HEAD_GAP if any(row.head is not None for row in rows) else 0
    fonts = Fonts()
    top = _EDGE + (36 if title else 0) + (24 if note else 0)
    width = max(2 * _EDGE + left + columns * (side + _GAP) - _GAP, 420)
    heights = [_height(row, columns, side) for row in rows]
    canvas = Image.new("RGB", (width, top + sum(heights) + _EDGE), colours.PAPER)
    draw = ImageDraw.Draw(canvas)
    _line(draw, fonts, (_EDGE, _EDGE), title, _TITLE, colours.INK, width - 2 * _EDGE)
    _line(draw, fonts, (_EDGE, top - 26), note, _NAME, colours.DIM, width - 2 * _EDGE)
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        if number and (left or row.title):
            draw.line([(_EDGE, top - 1), (width - _EDGE, top - 1)], colours.LINE)
        _line(draw, fonts, (_EDGE, top + 8), row.title, _NAME, colours.INK, width - 2 * _EDGE)
        for cell, (x, y) in _placed(row, columns, side, left, top):
            _draw(canvas, draw, fonts, cell, (x, y), side)
        top += height
    out = io.BytesIO()
    canvas.save(out, "PNG")
    return out.getvalue()


def _height(row: Row, columns: int, side: int) -> int:
    lines = max(1, -(-len(row.cells) // columns))
    return (26 if row.title else 0) + lines * _cell_height(side) + _GAP


def _cell_height(side: int) -> int:
    return side + 2 * 18 + _GAP


def _placed(row: Row, columns: int, side: int, left: int, top: int) -> Iterator[tuple[Cell, tuple[int, int]]]:
    top += _GAP + (26 if row.title else 0)
    if row.head is not None:
        yield row.head, (_EDGE, top)
    for number, cell in enumerate(row.cells):
        line, column = divmod(number, columns)
        yield cell, (_EDGE + left + column * (side + _GAP), top + line * _cell_height(side))


def _draw(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, fonts: Fonts, cell: Cell, at: tuple[int, int], side: int
) -> None:
    x, y = at
    box = (x, y, x + side - 1, y + side - 1)
    draw.rounded_rectangle(box, 6, colours.CARD)
    picture = _opened(cell.picture, side)
    if picture is None:
        _line(draw, fonts, (x + 10, y + side // 2 - 8), "no picture", _NOTE, colours.DIM, side - 20)
    else:
        if cell.tone == "faint":
            picture = Image.blend(picture.convert("L").convert("RGB"), Image.new("RGB", picture.size, "white"), 0.45)
        canvas.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
    if cell.tone in FRAMES:
        draw.rounded_rectangle((x - 3, y - 3, x + side + 2, y + side + 2), 7, None, FRAMES[cell.tone], 3)
    ink = colours.DIM if cell.tone == "faint" else colours.INK
    _line(draw, fonts, (x, y + side + 6), cell.name, _NAME, ink, side)
    _line(draw, fonts, (x, y + side + 23), cell.note, _NOTE, FRAMES.get(cell.tone, colours.DIM), side)


def _opened(data: bytes | None, side: int) -> Image.Image | None:
    """The picture on the card's ground, its longer side `side`; None where there is none that opens."""
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP", "PNG", "JPEG")) as opened:
            whole = opened.convert("RGBA")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    scale = side / max(whole.size)
    size = max(1, round(whole.width * scale)), max(1, round(whole.height * scale))
    ground = Image.new("RGBA", size, colours.CARD)
    ground.alpha_composite(whole.resize(size, Image.Resampling.LANCZOS))
    return ground.convert("RGB")


def _line(
    draw: ImageDraw.ImageDraw, fonts: Fonts, at: tuple[int, int], text: str, size: int, ink: str, width: int
) -> None:
    if text:
        shown, face = fonts.fitted(text, size, width)
        draw.text(at, shown, ink, face)
