"""Contact sheets: every picture is where it belongs, and no name, script or broken picture stops a sheet."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from service.drawing import colours
from service.drawing.fonts import Fonts
from service.drawing.sheet import Cell, Row, Tone, sheet
from tests.harness.pictures import encoded
from tests.harness.soak import examples

RED, BLUE = (250, 0, 0), (0, 0, 250)


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (256, 256)) -> bytes:
    return encoded(Image.new("RGB", size, colour), "WEBP", lossless=True)


def drawn(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def area(picture: Image.Image, colour: tuple[int, ...]) -> tuple[int, int, int, int]:
    """left, top, right, bottom of everything in one colour."""
    mask = (np.asarray(picture) == np.array(colour, np.uint8)).all(axis=2)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_the_head_stands_left_of_its_matches_and_rows_go_on_in_lines() -> None:
    found = [Cell(flat((0, 200, number)), f"item-{number}", ".9") for number in range(7)]
    picture = drawn(sheet([Row(Cell(flat(RED), "query.jpg", tone="key"), found)], columns=3, side=100))
    head = area(picture, RED)
    places = [area(picture, (0, 200, number)) for number in range(7)]
    assert head[2] - head[0] == 100 and all(right - left == 100 for left, _, right, _ in places)
    assert all(left > head[2] for left, *_ in places)
    assert [left for left, *_ in places] == [places[number % 3][0] for number in range(7)]
    assert [top for _, top, *_ in places] == [places[number // 3 * 3][1] for number in range(7)]
    assert places[0][1] == head[1] < places[3][1] < places[6][1]


@pytest.mark.parametrize(("size", "expected"), [((256, 128), (100, 50)), ((20, 40), (50, 100)), ((1, 256), (1, 100))])
def test_a_picture_keeps_its_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    left, top, right, bottom = area(drawn(sheet([Row(None, [Cell(flat(BLUE, size), "a")])], side=100)), BLUE)
    assert (right - left, bottom - top) == expected


@pytest.mark.parametrize("tone", ["key", "good", "bad"])
def test_a_tone_is_a_frame_around_the_picture(tone: Tone) -> None:
    frame = {"key": colours.KEY, "good": colours.GOOD, "bad": colours.BAD}[tone]
    plain = drawn(sheet([Row(None, [Cell(flat(BLUE), "a")])], side=100))
    framed = drawn(sheet([Row(None, [Cell(flat(BLUE), "a", tone=tone)])], side=100))
    left, top, right, bottom = area(framed, ImageColor.getrgb(frame))
    inner = area(framed, BLUE)
    assert area(plain, BLUE) == inner
    assert left < inner[0] and top < inner[1] and right > inner[2] and bottom > inner[3]


def test_a_picture_that_does_not_open_is_said_and_costs_only_itself() -> None:
    for bad in (None, b"", b"RIFF no picture", flat(RED)[:40]):
        picture = drawn(sheet([Row(None, [Cell(bad, "broken"), Cell(flat(BLUE), "whole")])], side=100))
        left, _, right, _ = area(picture, BLUE)
        assert right - left == 100


def test_more_than_a_viewer_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="5,000"):
        sheet([Row(None, [Cell(None, "x")] * 5_001)])
    assert drawn(sheet([], title="nothing")).width >= 420


@given(st.text(max_size=80), st.text(max_size=30), st.sampled_from(["plain", "key", "good", "bad", "faint"]))
@settings(max_examples=examples(25))
def test_any_text_is_drawn_inside_the_sheet(name: str, note: str, tone: Tone) -> None:
    cell = Cell(flat(BLUE), name, note, tone)
    picture = drawn(sheet([Row(cell, [cell, cell], title=name)], title=name, note=note, side=64))
    ground = np.asarray(picture)
    edge = np.concatenate([ground[:, :10].reshape(-1, 3), ground[:, -10:].reshape(-1, 3)])
    assert (edge == 255).all(), "no text runs over the edge"


def test_what_the_bundled_face_lacks_is_written_all_the_same() -> None:
    fonts = Fonts()
    text, face = fonts.of("Sessel", 13)
    assert (text, face.getname()[0]) == ("Sessel", "Aileron")
    text, face = fonts.of("crème brûlée", 13)
    assert text in ("crème brûlée", "creme brulee"), "with another face, or without the accents"
    text, face = fonts.of("a\U00013000b", 13)
    assert text == "a?b"
    assert face.getlength(fonts.fitted("x" * 300, 13, 90)[0]) <= 90
    assert fonts.fitted("folder:shoe-front-17", 13, 100)[0].endswith("17")
