"""A plot: panels side by side, each with axes, lines, areas, bars and marks, as one PNG of two pixels a point.

Shapes are drawn three times as large and averaged down, so that lines are smooth; text is drawn at its own size.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw

from service.drawing import colours
from service.drawing.fonts import Fonts

Span = tuple[float, float]

_SCALE = 2  # pixels a point
_SMOOTH = 3
_WIDTH, _HEIGHT = 440, 320  # of a panel, in points
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 26, 52, 64  # around its plotting area
_EDGE, _TITLE, _TEXT, _SMALL = 14, 17, 12, 11


@dataclass(frozen=True, slots=True)
class Line:
    """xs, ys: equally many. name: for the legend, none where it is empty. area: filled down to the axis.

    steps: the value before a step holds until it.
    """

    xs: Sequence[float]
    ys: Sequence[float]
    colour: str
    name: str = ""
    area: bool = False
    dashed: bool = False
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at x with words beside it; with y a point there instead, and the words in the legend."""

    x: float
    words: str
    colour: str = colours.INK
    y: float | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar for each label from 0 to its value; low and high: a whisker, where they are given."""

    labels: Sequence[str]
    values: Sequence[float]
    colour: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """x, y: the spans that are shown; None: what the lines need. No numbers on a y axis that `bare` says means none."""

    title: str
    x_label: str = ""
    y_label: str = ""
    lines: Sequence[Line] = ()
    marks: Sequence[Mark] = ()
    bars: Bars | None = None
    x: Span | None = None
    y: Span | None = None
    bare: bool = False
    percent: bool = False  # both axes hold shares


def plot(panels: Sequence[Panel], *, title: str = "", note: str = "") -> bytes:
    """The panels from left to right as PNG."""
    head = _EDGE + (26 if title else 0) + (18 if note else 0)
    width, height = len(panels) * _WIDTH, head + _HEIGHT
    large = Image.new("RGB", (width * _SCALE * _SMOOTH, height * _SCALE * _SMOOTH), colours.PAPER)
    axes = [_Axes(panel, number * _WIDTH, head) for number, panel in enumerate(panels)]
    shapes = ImageDraw.Draw(large, "RGBA")
    for each in axes:
        each.shapes(shapes)
    canvas = large.reduce(_SMOOTH)
    draw, fonts = ImageDraw.Draw(canvas), Fonts()
    _text(draw, fonts, (_EDGE, _EDGE), title, _TITLE, colours.INK, width - 2 * _EDGE)
    _text(draw, fonts, (_EDGE, head - 16), note, _TEXT, colours.DIM, width - 2 * _EDGE)
    for each in axes:
        each.words(draw, fonts)
    out = io.BytesIO()
    canvas.save(out, "PNG", optimize=False)
    return out.getvalue()


def density(scores: npt.NDArray[np.floating], xs: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """How densely scores lie at each x; its integral is 1. All zeros without scores.

    A Gaussian around each score, as wide as B. Silverman's rule (Density Estimation, 1986, 3.31) says.
    """
    if not len(scores):
        return np.zeros(len(xs))
    spread = min(float(scores.std()), float(np.subtract(*np.quantile(scores, [0.75, 0.25]))) / 1.34) or 0.01
    width = max(0.9 * spread * len(scores) ** -0.2, 0.004)
    counts, edges = np.histogram(scores, bins=400, range=(float(xs[0]) - 4 * width, float(xs[-1]) + 4 * width))
    middles = (edges[1:] + edges[:-1]) / 2
    bells = np.exp(-0.5 * ((xs[:, None] - middles[None]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    found: npt.NDArray[np.float64] = bells @ counts / len(scores)
    return found


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high, at most so many: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    found: list[float] = []
    for multiple in (1, 2, 2.5, 5, 10, 20, 50):
        step = power * multiple
        numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        if len(numbers) <= most:
            found = [number * step for number in numbers]
            break
    return found


@dataclass(slots=True)
class _Axes:
    """One panel on its place. left, top: of the panel, in points."""

    panel: Panel
    left: float
    top: float
    x: Span = field(init=False)
    y: Span = field(init=False)

    def __post_init__(self) -> None:
        panel = self.panel
        bars = len(panel.bars.labels) if panel.bars is not None else 0
        self.x = panel.x or ((-0.5, bars - 0.5) if bars else _span([each.xs for each in panel.lines]))
        values = [each.ys for each in panel.lines]
        if panel.bars is not None:
            values += [panel.bars.values, panel.bars.high]
        low, high = _span(values)
        self.y = panel.y or (min(0.0, low), high * 1.08 if high > 0 else 1.0)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """In points; what lies outside is moved to the edge."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            self.left + _LEFT + min(1.0, max(0.0, across)) * (_WIDTH - _LEFT - _RIGHT),
            self.top + _HEIGHT - _BOTTOM - min(1.0, max(0.0, up)) * (_HEIGHT - _TOP - _BOTTOM),
        )

    def shapes(self, draw: ImageDraw.ImageDraw) -> None:
        if not self.panel.bare:
            for tick in ticks(*self.y):
                draw.line(_large([self.at(self.x[0], tick), self.at(self.x[1], tick)]), "#e9ebef", _thick(0.8))
        if self.panel.bars is not None:
            self._bars(draw, self.panel.bars)
        for line in self.panel.lines:
            self._line(draw, line)
        for mark in self.panel.marks:
            if mark.y is None:
                foot, tip = self.at(mark.x, self.y[0]), self.at(mark.x, self.y[1])
                draw.line(_large([foot, tip]), mark.colour, _thick(1.4))
            else:
                (x, y) = self.at(mark.x, mark.y)
                draw.ellipse(_large([(x - 4.5, y - 4.5), (x + 4.5, y + 4.5)]), mark.colour, "white", _thick(1.2))
        draw.line(_large([self.at(self.x[0], self.y[0]), self.at(self.x[1], self.y[0])]), "#8a909b", _thick(1))

    def _bars(self, draw: ImageDraw.ImageDraw, bars: Bars) -> None:
        for number, value in enumerate(bars.values):
            (left, top), (right, bottom) = self.at(number - 0.33, value), self.at(number + 0.33, self.y[0])
            draw.rectangle(_large([(left, min(top, bottom)), (right, bottom)]), bars.colour)
        for number, (low, high) in enumerate(zip(bars.low, bars.high, strict=True)):
            draw.line(_large([self.at(number, low), self.at(number, high)]), colours.INK, _thick(1.2))

    def _line(self, draw: ImageDraw.ImageDraw, line: Line) -> None:
        points = list(zip(line.xs, line.ys, strict=True))
        if line.steps:
            held = [(x, y) for (x, _), (_, y) in zip(points[1:], points, strict=False)]
            points = [each for pair in zip(points, [*held, points[-1]], strict=True) for each in pair] if points else []
        placed = [self.at(*point) for point in points]
        if len(placed) < 2:
            return
        if line.area:
            foot = self.top + _HEIGHT - _BOTTOM
            outline = [(placed[0][0], foot), *placed, (placed[-1][0], foot)]
            draw.polygon(_large(outline), (*ImageColor.getrgb(line.colour)[:3], 46))
        for piece in _dashes(placed) if line.dashed else [placed]:
            draw.line(_large(piece), line.colour, _thick(2), joint="curve")

    def words(self, draw: ImageDraw.ImageDraw, fonts: Fonts) -> None:
        panel, left = self.panel, self.left + _LEFT
        room = _WIDTH - _LEFT - _RIGHT
        _text(draw, fonts, (self.left + _EDGE, self.top + 6), panel.title, _TEXT + 1, colours.INK, _WIDTH - 2 * _EDGE)
        bottom = self.top + _HEIGHT - _BOTTOM
        if panel.bars is not None:
            each = room / max(1, len(panel.bars.labels))
            for number, label in enumerate(panel.bars.labels):
                middle = self.at(number, self.y[0])[0]
                _text(draw, fonts, (middle, bottom + 6), label, _SMALL, colours.DIM, each - 4, anchor="ma")
        else:
            for tick in ticks(*self.x):
                _text(draw, fonts, (self.at(tick, 0)[0], bottom + 6), self._number(tick), _SMALL, colours.DIM, 60, "ma")
        if not panel.bare:
            for tick in ticks(*self.y):
                place = left - 7, self.at(self.x[0], tick)[1]
                _text(draw, fonts, place, self._number(tick), _SMALL, colours.DIM, 44, "rm")
        _text(draw, fonts, (left + room / 2, bottom + 24), panel.x_label, _SMALL, colours.DIM, room, "ma")
        _text(draw, fonts, (self.left + _EDGE, self.top + 25), panel.y_label, _SMALL, colours.DIM, room)
        self._legend(draw, fonts, left, bottom + 43)
        self._marked(draw, fonts)

    def _legend(self, draw: ImageDraw.ImageDraw, fonts: Fonts, x: float, y: float) -> None:
        for line in self.panel.lines:
            if line.name:
                shown, face = fonts.fitted(line.name, _SMALL * _SCALE, 220 * _SCALE)
                dot = [(x, y + 3), (x + 9, y + 12)]
                draw.rectangle([(a * _SCALE, b * _SCALE) for a, b in dot], line.colour)
                draw.text(((x + 14) * _SCALE, y * _SCALE), shown, colours.INK, face)
                x += 14 + face.getlength(shown) / _SCALE + 16
        for mark in self.panel.marks:
            if mark.y is not None:
                shown, face = fonts.fitted(mark.words, _SMALL * _SCALE, 220 * _SCALE)
                draw.ellipse([(a * _SCALE, b * _SCALE) for a, b in [(x, y + 3), (x + 9, y + 12)]], mark.colour)
                draw.text(((x + 14) * _SCALE, y * _SCALE), shown, colours.INK, face)
                x += 14 + face.getlength(shown) / _SCALE + 16

    def _marked(self, draw: ImageDraw.ImageDraw, fonts: Fonts) -> None:
        middle = self.left + _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
        for number, mark in enumerate(each for each in self.panel.marks if each.y is None):
            x, y = self.at(mark.x, self.y[1])
            left = x > middle + 30  # on the side where there is room for it
            room = (x - self.left - _LEFT if left else self.left + _WIDTH - x) - 12
            place = (x - 7 if left else x + 7), y - 16 + 15 * number
            _text(draw, fonts, place, mark.words, _SMALL, mark.colour, room, "ra" if left else "la", halo=True)

    def _number(self, value: float) -> str:
        if self.panel.percent:
            return f"{value * 100:.10g} %"
        return f"{value:.6g}"


def _span(values: Sequence[Sequence[float]]) -> Span:
    every = [float(each) for some in values for each in some]
    if not every:
        return 0.0, 1.0
    low, high = min(every), max(every)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _dashes(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Pieces of 5 points with gaps of 4 along the way."""
    found = []
    gone, on = 0.0, True
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        length = math.hypot(to_x - x, to_y - y)
        done = 0.0
        while length - done > 1e-9:
            step = min((5.0 if on else 4.0) - gone, length - done)
            if on:
                a, b = done / length, (done + step) / length
                found.append([(x + a * (to_x - x), y + a * (to_y - y)), (x + b * (to_x - x), y + b * (to_y - y))])
            done, gone = done + step, gone + step
            if gone >= (5.0 if on else 4.0) - 1e-9:
                gone, on = 0.0, not on
    return found


def _large(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x * _SCALE * _SMOOTH, y * _SCALE * _SMOOTH) for x, y in points]


def _thick(points: float) -> int:
    return max(1, round(points * _SCALE * _SMOOTH))


def _text(
    draw: ImageDraw.ImageDraw,
    fonts: Fonts,
    at: tuple[float, float],
    text: str,
    size: int,
    ink: str,
    room: float,
    anchor: str = "la",
    *,
    halo: bool = False,
) -> None:
    if not text:
        return
    shown, face = fonts.fitted(text, size * _SCALE, room * _SCALE)
    rim = 2 * _SCALE if halo else 0
    draw.text((at[0] * _SCALE, at[1] * _SCALE), shown, ink, face, anchor, stroke_width=rim, stroke_fill=colours.PAPER)
